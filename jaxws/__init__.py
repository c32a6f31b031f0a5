"""jaxws: locally connected networks and biologically plausible weight sharing, in JAX."""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxws.conversion import to_conv, to_local
    from jaxws.layer_windows import layer_windows
    from jaxws.layers import LocalConv
    from jaxws.local_conv import local_conv
    from jaxws.local_dense import LocalDense
    from jaxws.sharing import pool_mean, pool_sizes, pool_variance, share_weights
    from jaxws.snr import weight_snr

__version__ = "0.1.0"

__all__ = [
    "LocalConv",
    "LocalDense",
    "layer_windows",
    "local_conv",
    "pool_mean",
    "pool_sizes",
    "pool_variance",
    "share_weights",
    "to_conv",
    "to_local",
    "weight_snr",
]

# Imported when they are first asked for: command lines are read and explained before JAX and Flax,
# which take seconds, are needed.
_MODULES = {
    "LocalConv": "layers",
    "LocalDense": "local_dense",
    "layer_windows": "layer_windows",
    "local_conv": "local_conv",
    "pool_mean": "sharing",
    "pool_sizes": "sharing",
    "pool_variance": "sharing",
    "share_weights": "sharing",
    "to_conv": "conversion",
    "to_local": "conversion",
    "weight_snr": "snr",
}


class _Package(ModuleType):
    """This package; a class rather than PEP 562's functions, as it needs ``__setattr__`` too."""

    def __getattr__(self, name: str) -> Any:
        if name in _MODULES:
            module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
            setattr(self, name, getattr(module, name))
        elif name.startswith("_") or not importlib.util.find_spec(f"{__name__}.{name}"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        else:
            importlib.import_module(f"{__name__}.{name}")  # jaxws.dynamics after import jaxws
        return self.__dict__[name]

    def __setattr__(self, name: str, value: Any) -> None:
        # Whoever imports the module jaxws.local_conv makes Python bind it to this name, at any
        # time; the name is that of the function.
        if name in _MODULES and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
