"""C++ sources of the CPU kernels, compiled on first use for the processor at hand."""

from jaxws.core.native.build import load_library

__all__ = ["load_library"]
