"""A layout for locally connected weights that wastes no memory on TPUs.

HBM holds arrays in tiles of 8 x 128 elements over the last two axes. Filters of shape
(h, w, i, j, c, f) with 32 channels and features fill a quarter of their tiles, or less than half
with another axis last. Packed, they have one axis of i * j * c weights last::

    packed[h, w, f, (i j c)] = local_kernel[h, w, i, j, c, f]

3 x 3 x 32 weights fill three quarters of three tiles. It is also the layout that the kernels of
:mod:`jaxws.core.implementations.mosaic` read.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxws.core.local_kernels import (
    KernelLayout,
    PyTree,
    map_layouts,
    map_local_kernels,
    position_ndim,
)
from jaxws.core.pooled import PooledKernel
from jaxws.core.shapes import Filters, Packed


@partial(jax.tree_util.register_dataclass, data_fields=["array"], meta_fields=["kernel_size"])
@dataclasses.dataclass(frozen=True, eq=False)
class PackedKernel(KernelLayout):
    """A pytree node in place of a leaf named ``local_kernel``, with its shape and dtype.

    Attributes:
      array: packed filters, shape (h, w, f, i * j * c / groups), or likewise in 1-D and 3-D.
      kernel_size: (i, j), or likewise.
    """

    array: Packed | Any  # JAX rebuilds nodes with anything in the place of arrays
    kernel_size: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the filters: (h, w, i, j, c / groups, f)."""
        *positions, features, weights = self.array.shape
        size = math.prod(self.kernel_size)
        return (*positions, *self.kernel_size, weights // size, features)

    @property
    def dtype(self) -> np.dtype:
        """Of the filters."""
        return self.array.dtype

    def to_array(self) -> Filters:
        """Of shape (h, w, i, j, c / groups, f)."""
        return unpack_kernel(self.array, self.kernel_size)


def pack_kernels(tree: PyTree) -> PyTree:
    """Packs the leaves named ``local_kernel``: of parameters, gradients or a whole train state.

    :func:`jaxws.share_weights`, :func:`jaxws.training.step.train_step` and optax work on packed
    trees as they are, and :mod:`jaxws.training.state_layout` says when a run has them. Everything
    else expects :func:`unpack_kernels` of them.

    Args:
      tree: any pytree.

    Returns:
      A pytree with a :class:`PackedKernel` in place of each leaf named ``local_kernel``, and of the
      filters of those that are pooled.

    Raises:
      ValueError: a ``local_kernel`` whose rank is not 4, 6 or 8.

    Example:
      >>> packed = pack_kernels({"local_kernel": jnp.ones((8, 8, 3, 3, 16, 32)), "bias": 0})
      >>> packed["local_kernel"].array.shape, packed["local_kernel"].shape
      ((8, 8, 32, 144), (8, 8, 3, 3, 16, 32))
    """

    def pack(_: str, kernel: Any) -> KernelLayout:
        if not isinstance(kernel, PooledKernel):
            return _pack(kernel)
        probe = None if kernel.probe is None else _pack(kernel.probe)
        return dataclasses.replace(kernel, filters=_pack(kernel.filters), probe=probe)

    return map_local_kernels(pack, unpack_kernels(tree))


def _pack(kernel: Filters) -> PackedKernel:
    ndim = position_ndim(kernel)
    return PackedKernel(pack_kernel(kernel), tuple(kernel.shape[ndim : 2 * ndim]))


def unpack_kernels(tree: PyTree) -> PyTree:
    """The inverse of :func:`pack_kernels`; a tree without packed kernels comes back as it is.

    Args:
      tree: any pytree.

    Returns:
      A pytree with filters of shape (h, w, i, j, c / groups, f) in place of packed ones.

    Example:
      >>> packed = pack_kernels({"local_kernel": jnp.ones((8, 8, 3, 3, 16, 32))})
      >>> unpack_kernels(packed)["local_kernel"].shape
      (8, 8, 3, 3, 16, 32)
    """
    return map_layouts(PackedKernel.to_array, tree, PackedKernel)


def pack_kernel(local_kernel: Filters) -> Packed:
    """Moves the features in front of the weights of each, and makes those one axis.

    Args:
      local_kernel: filters, shape (h, w, i, j, c / groups, f), or likewise in 1-D and 3-D.

    Returns:
      An array of shape (h, w, f, i * j * c / groups).

    Example:
      >>> pack_kernel(jnp.ones((8, 8, 3, 3, 16, 32))).shape
      (8, 8, 32, 144)
    """
    ndim = position_ndim(local_kernel)
    packed = jnp.moveaxis(local_kernel, -1, ndim)
    return packed.reshape(*packed.shape[: ndim + 1], math.prod(packed.shape[ndim + 1 :]))


def unpack_kernel(packed: Packed, kernel_size: Sequence[int]) -> Filters:
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
