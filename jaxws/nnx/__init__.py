"""Locally connected layers as modules of Flax NNX, and weight sharing in place.

They are :mod:`jaxws.layers` with NNX's habits: parameters are made when the layer is, so that it
must be told how large its images will be. Names, shapes and numbers are the same.

Example:
  >>> import jax.numpy as jnp
  >>> from flax import nnx
  >>> from jaxws.nnx import LocalConv, share_weights
  >>> layer = LocalConv(3, 16, (3, 3), image_size=(32, 32), rngs=nnx.Rngs(0))
  >>> layer(jnp.ones((8, 32, 32, 3))).shape
  (8, 32, 32, 16)
  >>> share_weights(layer)  # in place
"""

from jaxws.nnx.conv import LocalConv
from jaxws.nnx.dense import LocalDense
from jaxws.nnx.low_rank import LowRankConv
from jaxws.nnx.sharing import Mask, share_weights, weight_snr
from jaxws.nnx.transposed import LocalConvTranspose

__all__ = [
    "LocalConv",
    "LocalConvTranspose",
    "LocalDense",
    "LowRankConv",
    "Mask",
    "share_weights",
    "weight_snr",
]
