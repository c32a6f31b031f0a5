"""jaxws: locally connected networks and biologically plausible weight sharing, in JAX."""

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
