"""Weight sharing as an operation on parameters: every weight becomes the mean of its pool.

Lateral connections can only equalise neurons that see the same input. A repeating input pattern
of the kernel's size k x k shows the same patch to every k-th neuron, so the output positions of a
layer fall into k * k interleaved grids (i::k, j::k), and a pool is one such grid for one kernel
offset, input channel and feature (Sec. 4 of the paper). After sharing, a layer is nearly a
convolution: it has k * k filters, each tied over its grid. A 1 x 1 layer has one pool and becomes a
convolution.

The functions take any pytree and change its leaves named ``local_kernel`` only; see
:mod:`jaxws.local_kernels`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.shard_alike import shard_alike
from jax.sharding import AxisType, auto_axes

from jaxws.local_kernels import PyTree, map_local_kernels
from jaxws.precision import accumulation_dtype

AxisName: TypeAlias = str | Sequence[str | None] | None

POOLS = ("grid", "global")


def share_weights(params: PyTree, *, pools: str = "grid", axis_name: AxisName = None) -> PyTree:
    """Replaces every locally connected weight by the mean of its pool (instant sharing).

    A linear projection: idempotent to the last bit, and it keeps every pool's mean. Works under
    ``jit``, ``vmap``, ``grad``, ``pmap`` and ``shard_map`` and on ``nnx.State``.

    Args:
      params: any pytree; leaves named ``local_kernel`` have shape (h, w, i, j, c / groups, f).
      pools: ``'grid'`` for the k * k interleaved grids, ``'global'`` for one pool of all positions,
        which makes every layer a convolution.
      axis_name: only where positions are split over a mapped axis, as in ``shard_map``: the name of
        the axis that holds equal, consecutive slabs of the first position axis, or a sequence of
        one name or None per position axis. Replicated weights need none.

    Returns:
      A pytree of the same structure, shapes, dtypes and shardings.

    Raises:
      ValueError: unknown ``pools``, a ``local_kernel`` of the wrong rank, too many axis names.

    Example:
      >>> params = {"conv1": {"local_kernel": jnp.arange(4.0).reshape(4, 1, 1, 1)}}
      >>> share_weights(params)["conv1"]["local_kernel"].ravel()
      Array([1.5, 1.5, 1.5, 1.5], dtype=float32)
    """

    def share(kernel: jax.Array) -> jax.Array:
        sizes, names = _positions(kernel), _axis_names(kernel, axis_name)
        mean = _pool_mean(kernel, pools, names)
        for axis, (size, name) in enumerate(zip(sizes, names, strict=True)):
            if name is not None:  # from pools as the whole layer counts them to this slab's own
                mean = jnp.roll(mean, -lax.axis_index(name) * size, axis)
        return _tile(mean, sizes).astype(kernel.dtype)

    return map_local_kernels(lambda _, kernel: _keep_sharding(share, jnp.asarray(kernel)), params)


def pool_mean(
    local_kernel: jax.Array, *, pools: str = "grid", axis_name: AxisName = None
) -> jax.Array:
    """The mean filter of every pool, in float32 at least.

    Args:
      local_kernel: filters, shape (h, w, i, j, c / groups, f).
      pools: as in :func:`share_weights`.
      axis_name: as in :func:`share_weights`.

    Returns:
      Filters of shape (min(i, h), min(j, w), i, j, c / groups, f); entry (a, b) is the mean over
      the positions (a::i, b::j). With ``pools='global'`` the shape starts with (1, 1).

    Raises:
      ValueError: as :func:`share_weights`.

    Example:
      >>> pool_mean(jnp.ones((32, 32, 3, 3, 16, 16))).shape
      (3, 3, 3, 3, 16, 16)
    """
    return _pool_mean(local_kernel, pools, _axis_names(local_kernel, axis_name))


def pool_sizes(local_kernel: jax.Array, *, pools: str = "grid") -> np.ndarray:
    """The number of neurons in every pool; it differs by one position where k does not divide h.

    Args:
      local_kernel: filters, shape (h, w, i, j, c / groups, f).
      pools: as in :func:`share_weights`.

    Returns:
      Counts, float32, shaped to broadcast against :func:`pool_mean`.

    Raises:
      ValueError: as :func:`share_weights`.

    Example:
      >>> pool_sizes(jnp.ones((8, 3, 16, 16))).ravel()  # 1-D: 8 positions, kernel size 3
      array([3., 3., 2.], dtype=float32)
    """
    sizes = _positions(local_kernel)
    return _pool_sizes(local_kernel, _periods(local_kernel, pools, sizes), sizes)


def pool_variance(local_kernel: jax.Array, *, pools: str = "grid") -> jax.Array:
    """The variance of the weights within every pool, divided by the pool's size, not size - 1.

    Args:
      local_kernel: filters, shape (h, w, i, j, c / groups, f).
      pools: as in :func:`share_weights`.

    Returns:
      Variances of the shape of :func:`pool_mean`.

    Raises:
      ValueError: as :func:`share_weights`.

    Example:
      >>> pool_variance(jnp.asarray([0.0, 2.0]).reshape(2, 1, 1, 1)).ravel()
      Array([1.], dtype=float32)
    """
    sizes = _positions(local_kernel)
    mean = pool_mean(local_kernel, pools=pools)
    squares = jnp.square(local_kernel.astype(mean.dtype) - _tile(mean, sizes))
    counts = pool_sizes(local_kernel, pools=pools)
    return _pool_sum(squares, _periods(local_kernel, pools, sizes)) / counts


def _positions(kernel: jax.Array) -> tuple[int, ...]:
    return kernel.shape[: kernel.ndim // 2 - 1]


def _axis_names(kernel: jax.Array, axis_name: AxisName) -> tuple[str | None, ...]:
    ndim = len(_positions(kernel))
    names = (axis_name,) if axis_name is None or isinstance(axis_name, str) else tuple(axis_name)
    if len(names) > ndim:
        raise ValueError(
            f"axis_name={axis_name!r}: expected at most {ndim} names for a layer with {ndim}"
            " position axes."
        )
    return names + (None,) * (ndim - len(names))


def _periods(kernel: jax.Array, pools: str, sizes: Sequence[int]) -> tuple[int, ...]:
    """Number of pools along each position axis: the kernel size where the axis is long enough."""
    if pools not in POOLS:
        raise ValueError(f"pools={pools!r}: expected one of {POOLS}.")
    ndim = len(sizes)
    kernel_size = kernel.shape[ndim : 2 * ndim] if pools == "grid" else (1,) * ndim
    return tuple(min(k, size) for k, size in zip(kernel_size, sizes, strict=True))


def _pool_mean(kernel: jax.Array, pools: str, names: tuple[str | None, ...]) -> jax.Array:
    local = _positions(kernel)
    sizes = tuple(
        size if name is None else size * lax.axis_size(name)
        for size, name in zip(local, names, strict=True)
    )
    periods = _periods(kernel, pools, sizes)
    weights = kernel.astype(accumulation_dtype(kernel.dtype))
    counts = _pool_sizes(kernel, periods, sizes)
    if not any(names):
        # Averaging the deviations from one member of the pool returns equal weights to the last
        # bit, which a plain mean does not; the gradient is that of the mean.
        member = lax.stop_gradient(weights[tuple(slice(p) for p in periods)])
        return member + _pool_sum(weights - _tile(member, local), periods) / counts
    total = _pool_sum(weights, periods)
    for axis, (size, name) in enumerate(zip(local, names, strict=True)):
        if name is not None:  # row 0 of a slab is row index * size of the layer
            total = lax.psum(jnp.roll(total, lax.axis_index(name) * size, axis), name)
    return total / counts


def _pool_sum(weights: jax.Array, periods: tuple[int, ...]) -> jax.Array:
    """Sums over the positions of each pool: (h, w, ...) to (periods[0], periods[1], ...)."""
    ndim = len(periods)
    padding = [(0, -size % p) for size, p in zip(weights.shape, periods, strict=False)]
    weights = jnp.pad(weights, padding + [(0, 0)] * (weights.ndim - ndim))
    split = [n for size, p in zip(weights.shape, periods, strict=False) for n in (size // p, p)]
    return weights.reshape(*split, *weights.shape[ndim:]).sum(tuple(range(0, 2 * ndim, 2)))


def _pool_sizes(kernel: jax.Array, periods: Sequence[int], sizes: Sequence[int]) -> np.ndarray:
    """Number of positions in each pool, shaped to broadcast against the pool means."""
    counts = np.ones((), np.float32)
    for p, size in zip(periods, sizes, strict=True):
        counts = np.multiply.outer(counts, -(-(size - np.arange(p)) // p).astype(np.float32))
    return counts.reshape(counts.shape + (1,) * (kernel.ndim - len(sizes)))


def _tile(mean: jax.Array, sizes: Sequence[int]) -> jax.Array:
    """Repeats pool values along the position axes until they cover the layer."""
    repeats = [math.ceil(size / p) for size, p in zip(sizes, mean.shape, strict=False)]
    tiled = jnp.tile(mean, repeats + [1] * (mean.ndim - len(sizes)))
    return tiled[tuple(slice(size) for size in sizes)]


def _keep_sharding(function: Callable[[jax.Array], jax.Array], kernel: jax.Array) -> jax.Array:
    """Applies a shape-preserving function so that its result is sharded as its argument is."""
    sharding = jax.typeof(kernel).sharding
    if AxisType.Explicit in sharding.mesh.axis_types:
        return auto_axes(function, out_sharding=sharding)(kernel)
    # The compiler is free to choose under Auto axes, and would gather a kernel split by position.
    return shard_alike(kernel, function(kernel))[1]
