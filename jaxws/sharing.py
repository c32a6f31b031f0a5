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

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.shard_alike import shard_alike
from jax.sharding import AxisType, NamedSharding, PartitionSpec, auto_axes

from jaxws.local_kernels import PyTree, map_local_kernels, position_ndim
from jaxws.precision import accumulation_dtype

AxisName: TypeAlias = str | Sequence[str | None] | None

POOLS = ("grid", "global")


def share_weights(params: PyTree, *, pools: str = "grid", axis_name: AxisName = None) -> PyTree:
    """Replaces every locally connected weight by the mean of its pool (instant sharing).

    A linear projection: it keeps every pool's mean, and it is idempotent, to the last bit unless
    ``axis_name`` is given. Works under ``jit``, ``vmap``, ``grad``, ``pmap`` and ``shard_map`` and
    on ``nnx.State``. Give it the parameters alone: in the optimizer's state it would find and
    average moments, which the paper leaves alone.

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

    def share(_: str, kernel: Any) -> Any:
        share_array = partial(_project, grid=_make_grid(kernel, pools, axis_name))
        # The array of packed kernels has the same position axes in front.
        return jax.tree.map(lambda a: _keep_sharding(share_array, jnp.asarray(a)), kernel)

    return map_local_kernels(share, params)


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
    return _per_pool(
        lambda kernel: _mean(kernel, _make_grid(kernel, pools, axis_name)), local_kernel
    )


def pool_variance(
    local_kernel: jax.Array, *, pools: str = "grid", axis_name: AxisName = None
) -> jax.Array:
    """The variance of the weights within every pool, divided by the pool's size, not size - 1.

    Args:
      local_kernel: filters, shape (h, w, i, j, c / groups, f).
      pools: as in :func:`share_weights`.
      axis_name: as in :func:`share_weights`.

    Returns:
      Variances of the shape of :func:`pool_mean`.

    Raises:
      ValueError: as :func:`share_weights`.

    Example:
      >>> pool_variance(jnp.asarray([0.0, 2.0]).reshape(2, 1, 1, 1)).ravel()
      Array([1.], dtype=float32)
    """

    def variance(kernel: jax.Array) -> jax.Array:
        grid = _make_grid(kernel, pools, axis_name)
        mean = _mean(kernel, grid)
        deviation = kernel.astype(mean.dtype) - grid.spread(mean)
        return grid.total(jnp.square(deviation)) / grid.counts(kernel.ndim)

    return _per_pool(variance, local_kernel)


def pool_sizes(
    local_kernel: jax.Array, *, pools: str = "grid", axis_name: AxisName = None
) -> np.ndarray:
    """The number of neurons in every pool; it differs by one position where k does not divide h.

    Args:
      local_kernel: filters, shape (h, w, i, j, c / groups, f).
      pools: as in :func:`share_weights`.
      axis_name: as in :func:`share_weights`.

    Returns:
      Counts, float32, shaped to broadcast against :func:`pool_mean`.

    Raises:
      ValueError: as :func:`share_weights`.

    Example:
      >>> pool_sizes(jnp.ones((8, 3, 16, 16))).ravel()  # 1-D: 8 positions, kernel size 3
      array([3., 3., 2.], dtype=float32)
    """
    return _make_grid(local_kernel, pools, axis_name).counts(local_kernel.ndim)


class _Grid(NamedTuple):
    """The pools of a layer, whose position axes may be split over mapped axes.

    Attributes:
      local: number of positions here, per position axis.
      sizes: number of positions of the whole layer.
      periods: number of pools: the kernel size, where the axis is long enough.
      names: of the mapped axis that splits a position axis, or None.
    """

    local: tuple[int, ...]
    sizes: tuple[int, ...]
    periods: tuple[int, ...]
    names: tuple[str | None, ...]

    def total(self, weights: jax.Array, member: jax.Array | None = None) -> jax.Array:
        """Sums over the positions of each pool: (h, w, ...) to (periods[0], periods[1], ...).

        With ``member``, one weight of each pool, sums differences from it.
        """
        total = lax.platform_dependent(
            weights, member, tpu=self._total_of_slices, default=self._total_of_blocks
        )
        for axis, start, name in self._slabs():
            total = lax.psum(jnp.roll(total, start, axis), name)
        return total

    def spread(self, values: jax.Array) -> jax.Array:
        """Gives every position the value of its pool: the transpose of ``total``."""
        for axis, start, _ in self._slabs():
            values = jnp.roll(values, -start, axis)
        axes = range(len(self.local))
        return lax.platform_dependent(
            values, tpu=partial(self._select, axes=axes), default=self._tile
        )

    def _total_of_blocks(self, weights: jax.Array, member: jax.Array | None) -> jax.Array:
        weights = weights if member is None else weights - self._tile(member)
        ndim, rest = len(self.local), weights.shape[len(self.local) :]
        pairs = list(zip(self.local, self.periods, strict=True))
        padding = [(0, -size % p) for size, p in pairs] + [(0, 0)] * len(rest)
        split = [n for size, p in pairs for n in (-(-size // p), p)]
        return jnp.pad(weights, padding).reshape(*split, *rest).sum(tuple(range(0, 2 * ndim, 2)))

    def _tile(self, values: jax.Array) -> jax.Array:
        repeats = [-(-size // p) for size, p in zip(self.local, self.periods, strict=True)]
        tiled = jnp.tile(values, repeats + [1] * (values.ndim - len(repeats)))
        return tiled[tuple(slice(size) for size in self.local)]

    # TPUs run pads, reshapes and tiles one by one, each a pass over the weights and back. Strided
    # slices and selects become part of what comes after them.

    def _total_of_slices(self, weights: jax.Array, member: jax.Array | None) -> jax.Array:
        for axis, period in enumerate(self.periods):
            before = (slice(None),) * axis
            slices = [weights[(*before, slice(a, None, period))] for a in range(period)]
            if axis == 0 and member is not None:
                rows = self._select(member, range(1, len(self.local)))
                slices = [one - rows[a : a + 1] for a, one in enumerate(slices)]
            weights = jnp.stack([one.sum(axis) for one in slices], axis)
        return weights

    def _select(self, values: jax.Array, axes: Sequence[int]) -> jax.Array:
        for axis in reversed(axes):
            size, period = self.local[axis], self.periods[axis]
            index_shape = [size if a == axis else 1 for a in range(values.ndim)]
            index = lax.broadcasted_iota(jnp.int32, index_shape, axis) % period
            shape = [size if a == axis else n for a, n in enumerate(values.shape)]
            pools = jnp.split(values, period, axis)
            values = jnp.broadcast_to(pools[0], shape)
            for a, pool in enumerate(pools[1:], 1):
                values = jnp.where(index == a, pool, values)
        return values

    def counts(self, ndim: int) -> np.ndarray:
        """Number of positions in each pool, with ``ndim`` axes."""
        counts = np.ones((), np.float32)
        for size, p in zip(self.sizes, self.periods, strict=True):
            counts = np.multiply.outer(counts, -(-(size - np.arange(p)) // p).astype(np.float32))
        return counts.reshape(counts.shape + (1,) * (ndim - len(self.sizes)))

    def _slabs(self) -> Iterator[tuple[int, jax.Array, str]]:
        """Where slabs start: their first row is row ``index * size`` of the layer."""
        for axis, (size, name) in enumerate(zip(self.local, self.names, strict=True)):
            if name is not None:
                yield axis, lax.axis_index(name) * size, name


def _make_grid(kernel: jax.Array, pools: str, axis_name: AxisName) -> _Grid:
    if pools not in POOLS:
        raise ValueError(f"pools={pools!r}: expected one of {POOLS}.")
    ndim = position_ndim(kernel)
    names = (axis_name,) if axis_name is None or isinstance(axis_name, str) else tuple(axis_name)
    if len(names) > ndim:
        raise ValueError(
            f"axis_name={axis_name!r}: expected at most {ndim} names for a layer with {ndim}"
            " position axes."
        )
    names += (None,) * (ndim - len(names))
    local = kernel.shape[:ndim]
    sizes = tuple(
        size if name is None else size * lax.axis_size(name)
        for size, name in zip(local, names, strict=True)
    )
    kernel_size = kernel.shape[ndim : 2 * ndim] if pools == "grid" else (1,) * ndim
    periods = tuple(min(k, size) for k, size in zip(kernel_size, sizes, strict=True))
    return _Grid(local, sizes, periods, names)


def _project(kernel: jax.Array, grid: _Grid) -> jax.Array:
    return grid.spread(_mean(kernel, grid)).astype(kernel.dtype)


def _mean(kernel: jax.Array, grid: _Grid) -> jax.Array:
    weights = kernel.astype(accumulation_dtype(kernel.dtype))
    counts = grid.counts(kernel.ndim)
    if any(grid.names):
        return grid.total(weights) / counts
    # Averaging the deviations from one member of the pool returns equal weights to the last bit,
    # which a plain mean does not; the gradient is that of the mean.
    member = lax.stop_gradient(weights[tuple(slice(p) for p in grid.periods)])
    return member + grid.total(weights, member) / counts


def _per_pool(function: Callable[[jax.Array], jax.Array], kernel: jax.Array) -> jax.Array:
    """Applies a function from (h, w, ...) to (pools, pools, ...), whatever the sharding."""
    kernel = jnp.asarray(kernel)
    sharding = jax.typeof(kernel).sharding
    if AxisType.Explicit not in sharding.mesh.axis_types:
        return function(kernel)
    ndim = position_ndim(kernel)
    spec = PartitionSpec(*(None,) * ndim, *sharding.spec[ndim:])
    return auto_axes(function, out_sharding=NamedSharding(sharding.mesh, spec))(kernel)


def _keep_sharding(function: Callable[[jax.Array], jax.Array], kernel: jax.Array) -> jax.Array:
    """Applies a shape-preserving function so that its result is sharded as its argument is."""
    sharding = jax.typeof(kernel).sharding
    if AxisType.Explicit in sharding.mesh.axis_types:
        return auto_axes(function, out_sharding=sharding)(kernel)
    # The compiler is free to choose under Auto axes, and would gather a kernel split by position.
    return shard_alike(kernel, function(kernel))[1]
