"""jaxws: locally connected networks and biologically plausible weight sharing, in JAX."""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxws.core.conversion import to_conv, to_local
    from jaxws.core.local_conv import local_conv
    from jaxws.core.sharing import pool_mean, pool_sizes, pool_variance, share_weights
    from jaxws.core.similarity import similarity_loss
    from jaxws.core.snr import weight_snr
    from jaxws.core.topography import smoothness_loss
    from jaxws.core.transposed import local_conv_transpose
    from jaxws.layers.conv import LocalConv
    from jaxws.layers.dense import LocalDense
    from jaxws.layers.low_rank import LowRankConv
    from jaxws.layers.transposed import LocalConvTranspose
    from jaxws.layers.windows import layer_windows

__version__ = "0.1.0"

__all__ = [
    "LocalConv",
    "LocalConvTranspose",
    "LocalDense",
    "LowRankConv",
    "layer_windows",
    "local_conv",
    "local_conv_transpose",
    "pool_mean",
    "pool_sizes",
    "pool_variance",
    "share_weights",
    "similarity_loss",
    "smoothness_loss",
    "to_conv",
    "to_local",
    "weight_snr",
]

# Imported when they are first asked for: command lines are read and explained before JAX and Flax,
# which take seconds, are needed.
_MODULES = {
    "LocalConv": "layers.conv",
    "LocalConvTranspose": "layers.transposed",
    "LocalDense": "layers.dense",
    "LowRankConv": "layers.low_rank",
    "layer_windows": "layers.windows",
    "local_conv": "core.local_conv",
    "local_conv_transpose": "core.transposed",
    "pool_mean": "core.sharing",
    "pool_sizes": "core.sharing",
    "pool_variance": "core.sharing",
    "share_weights": "core.sharing",
    "similarity_loss": "core.similarity",
    "smoothness_loss": "core.topography",
    "to_conv": "core.conversion",
    "to_local": "core.conversion",
    "weight_snr": "core.snr",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value
    if name.startswith("_") or not importlib.util.find_spec(f"{__name__}.{name}"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")  # jaxws.dynamics after import jaxws


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
