"""A layout for locally connected weights that wastes no memory on TPUs.

HBM holds arrays in tiles of 8 x 128 elements over the last two axes. Filters of shape
(h, w, i, j, c, f) with 32 channels and features fill a quarter of their tiles, or less than half
with another axis last. Packed, they have one axis of i * j * c weights last::

    packed[h, w, f, (i j c)] = local_kernel[h, w, i, j, c, f]

3 x 3 x 32 weights fill three quarters of three tiles. It is also the layout that the kernels of
:mod:`jaxws.implementations.mosaic` read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp


def pack_kernel(local_kernel: jax.Array) -> jax.Array:
    """Moves the features in front of the weights of each, and makes those one axis.

    Args:
      local_kernel: filters, shape (h, w, i, j, c / groups, f), or likewise in 1-D and 3-D.

    Returns:
      An array of shape (h, w, f, i * j * c / groups).

    Example:
      >>> pack_kernel(jnp.ones((8, 8, 3, 3, 16, 32))).shape
      (8, 8, 32, 144)
    """
    ndim = local_kernel.ndim // 2 - 1
    packed = jnp.moveaxis(local_kernel, -1, ndim)
    return packed.reshape(*packed.shape[: ndim + 1], math.prod(packed.shape[ndim + 1 :]))


def unpack_kernel(packed: jax.Array, kernel_size: Sequence[int]) -> jax.Array:
    """The inverse of :func:`pack_kernel`.

    Args:
      packed: filters, shape (h, w, f, i * j * c / groups), or likewise in 1-D and 3-D.
      kernel_size: (i, j), or likewise.

    Returns:
      Filters of shape (h, w, i, j, c / groups, f).

    Example:
      >>> unpack_kernel(jnp.ones((8, 8, 32, 144)), (3, 3)).shape
      (8, 8, 3, 3, 16, 32)
    """
    *positions, features, weights = packed.shape
    channels = weights // math.prod(kernel_size)
    kernel = packed.reshape(*positions, features, *kernel_size, channels)
    return jnp.moveaxis(kernel, len(positions), -1)
