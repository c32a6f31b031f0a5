"""The pools of a layer: which output positions share a weight, their means and sizes.

Along one axis the pools are every p-th position, so a mean over a pool is a mean along the first
axis, then along the second. Along an axis, blocks of p positions lie next to each other in memory,
and adding up whole blocks is a single pass over the weights at the speed of the memory, which a
reduction over every p-th position is not: XLA's took 3 times as long on a CPU.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Shaped

from jaxws.core.islands.layout import Layout, current_mesh, mesh_sizes, split_over
from jaxws.core.islands.sums import mean_over_devices, pieces
from jaxws.core.local_kernels import Kernel, accumulation_dtype, position_ndim

AxisName: TypeAlias = str | Sequence[str | None] | None
_Names: TypeAlias = str | tuple[str, ...]

POOLS = ("grid", "global")
# Blocks that are added up one by one; the program grows with them. Few layers have more.
_MOST_BLOCKS = 64


class Grid(NamedTuple):
    """The pools of a layer, whose position axes may be split over mapped axes.

    Attributes:
      local: number of positions here, per position axis.
      sizes: number of positions of the whole layer.
      periods: number of pools: the kernel size, where the axis is long enough.
      names: of the mapped axis or axes that split a position axis, or None.
      layout: over the mesh in context, which splits weights and moments so; None without one.
    """

    local: tuple[int, ...]
    sizes: tuple[int, ...]
    periods: tuple[int, ...]
    names: tuple[_Names | None, ...]
    layout: Layout | None = None

    # Jitted for callers that are not: each slice below would be compiled by itself.
    @functools.partial(jax.jit, static_argnums=0, inline=True)
    def mean(self, weights: Float[Array, "..."]) -> Float[Array, "..."]:
        """The mean of each pool, in float32 at least: (h, w, ...) to (*periods, ...)."""
        if self.layout is not None:
            means: jax.Array = self._on_mesh(Grid.mean, weights, gives_pools=True)
            return means
        weights = weights.astype(accumulation_dtype(weights.dtype))
        if any(self.names):
            return self._mean_over_devices(weights)
        for axis in range(len(self.local)):
            weights, _ = self._moments(weights, axis)
        return weights

    @functools.partial(jax.jit, static_argnums=0, inline=True)
    def moments(
        self, weights: Float[Array, "..."]
    ) -> tuple[Float[Array, "*pools_and_rest"], Float[Array, "*pools_and_rest"]]:
        """Mean and variance of each pool, in the same pass over the weights as ``mean``."""
        if self.layout is not None:
            both: tuple[jax.Array, jax.Array]
            both = self._on_mesh(Grid.moments, weights, gives_pools=True)
            return both
        weights = weights.astype(accumulation_dtype(weights.dtype))
        if any(self.names):
            mean = self.mean(weights)
            squares = jnp.square(weights - self.spread(mean))  # 0 where weights are equal
            return mean, self._mean_over_devices(squares, exact=False)
        variance = jnp.zeros(())
        for axis in range(len(self.local)):
            within = self._moments(variance, axis)[0] if axis else variance
            weights, between = self._moments(weights, axis)
            variance = within + between
        return weights, variance

    @functools.partial(jax.jit, static_argnums=0, inline=True)
    def spread(self, values: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        """Gives every position the value of its pool: (*periods, ...) to (h, w, ...)."""
        if self.layout is not None:
            weights: jax.Array = self._on_mesh(Grid.spread, values, gives_pools=False)
            return weights
        for axis, name in enumerate(self.names):
            if name is not None:
                values = jnp.roll(values, -self._start(axis), axis)
        spread: jax.Array = lax.platform_dependent(values, tpu=self._select, default=self._tile)
        return spread

    def counts(self, ndim: int) -> Float[np.ndarray, "..."]:
        """Number of positions in each pool, with ``ndim`` axes."""
        counts = [self._axis_counts(axis, len(self.sizes)) for axis in range(len(self.sizes))]
        product = functools.reduce(np.multiply, counts, np.ones((), np.float32))
        return product.reshape(product.shape + (1,) * (ndim - len(self.sizes)))

    def _axis_counts(self, axis: int, ndim: int) -> np.ndarray:
        size, period = self.sizes[axis], self.periods[axis]
        counts = -(-(size - np.arange(period)) // period).astype(np.float32)
        return counts.reshape([period if a == axis else 1 for a in range(ndim)])

    def _moments(self, weights: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
        """Mean and variance along one axis."""
        # Of deviations from one member, so that equal weights come back to the last bit and have no
        # variance at all, which plain sums do not give; gradients are those of mean and variance.
        member = lax.stop_gradient(lax.slice_in_dim(weights, 0, self.periods[axis], axis=axis))
        counts = self._axis_counts(axis, weights.ndim).astype(weights.dtype)
        offset = _add_blocks(weights, axis, member) / counts
        square = _add_blocks(weights, axis, member, jnp.square) / counts
        return member + offset, jnp.maximum(square - jnp.square(offset), 0)

    def _mean_over_devices(self, weights: jax.Array, exact: bool = True) -> jax.Array:
        """The mean by one collective; exact for weights that are equal."""
        names = [n for name in self.names if name for n in _as_tuple(name)]
        counts = self.counts(weights.ndim)
        parts = pieces(weights, most=int(counts.max())) if exact else [weights]
        return mean_over_devices([self._sum_here(part) for part in parts], counts, names)

    def _sum_here(self, weights: jax.Array) -> jax.Array:
        """The sum over what each pool has on this device."""
        for axis, (size, period) in enumerate(zip(self.local, self.periods, strict=True)):
            if size < period:
                padding = [(0, period - size if a == axis else 0) for a in range(weights.ndim)]
                weights = jnp.pad(weights, padding)
            zeros = jnp.zeros_like(lax.slice_in_dim(weights, 0, period, axis=axis))
            weights = _add_blocks(weights, axis, zeros)
            if self.names[axis] is not None:
                weights = jnp.roll(weights, self._start(axis), axis)
        return weights

    def _on_mesh(self, method: Callable[..., Any], values: jax.Array, gives_pools: bool) -> Any:
        """A method on each device's part of the layer."""
        assert self.layout is not None
        local = tuple(size // self.layout.parts(a) for a, size in enumerate(self.sizes))
        names = tuple(split or None for split in self.layout.positions)
        here = Grid(local, self.sizes, self.periods, names)
        packed = values.ndim == len(self.sizes) + 2
        pools, weights = (self.layout.kernel_spec(pooled=p, packed=packed) for p in (True, False))
        inputs, results = (weights, pools) if gives_pools else (pools, weights)
        return jax.shard_map(partial(method, here), in_specs=inputs, out_specs=results)(values)

    def _start(self, axis: int) -> jax.Array:
        """The first row of this device's slab."""
        return lax.axis_index(self.names[axis]) * self.local[axis]

    def _tile(self, values: jax.Array) -> jax.Array:
        repeats = [-(-size // p) for size, p in zip(self.local, self.periods, strict=True)]
        tiled = jnp.tile(values, repeats + [1] * (values.ndim - len(repeats)))
        return tiled[tuple(slice(size) for size in self.local)]

    def _select(self, values: jax.Array) -> jax.Array:
        """``_tile`` for TPUs, where tiles are passes over memory and selects are none."""
        for axis in reversed(range(len(self.local))):
            size, period = self.local[axis], self.periods[axis]
            index_shape = [size if a == axis else 1 for a in range(values.ndim)]
            index = lax.broadcasted_iota(jnp.int32, index_shape, axis) % period
            shape = [size if a == axis else n for a, n in enumerate(values.shape)]
            pools = jnp.split(values, period, axis)
            values = jnp.broadcast_to(pools[0], shape)
            for a, pool in enumerate(pools[1:], 1):
                values = jnp.where(index == a, pool, values)
        return values


def make_grid(kernel: Kernel, pools: str, axis_name: AxisName = None) -> Grid:
    """Reads the pools of a layer from the shape of its kernel.

    Args:
      kernel: filters, or anything of their shape (h, w, i, j, c / groups, f).
      pools: ``'grid'`` or ``'global'``.
      axis_name: as in :func:`jaxws.share_weights`.

    Returns:
      The grid.

    Raises:
      ValueError: unknown ``pools``, too many axis names.

    Example:
      >>> make_grid(jnp.ones((8, 8, 3, 3, 16, 16)), "grid").periods
      (3, 3)
    """
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
    layout = None if any(names) else _layout(sizes, kernel.shape[-1])
    return Grid(local, sizes, periods, names, layout)


def _as_tuple(name: _Names) -> tuple[str, ...]:
    return (name,) if isinstance(name, str) else name


def _layout(positions: tuple[int, ...], features: int) -> Layout | None:
    mesh = current_mesh()
    return None if mesh is None else split_over(positions, features, mesh_sizes(mesh))


def spread_pools(filters: Shaped[Array, "..."], positions: tuple[int, ...]) -> Shaped[Array, "..."]:
    """Gives position (h, w) the filter (h mod p, w mod q) of p * q filters.

    Args:
      filters: shape (p, q, ...), or likewise with 1 or 3 position axes.
      positions: (h, w), or likewise; not below (p, q).

    Returns:
      An array of shape (h, w, ...).

    Example:
      >>> spread_pools(jnp.asarray([10, 20]), (5,))
      Array([10, 20, 10, 20, 10], dtype=int32)
    """
    periods = filters.shape[: len(positions)]
    if periods == positions:
        return filters
    ndim = len(positions)
    features = filters.shape[ndim if filters.ndim == ndim + 2 else -1]  # packed, or not
    layout = _layout(positions, features)
    grid = Grid(positions, positions, periods, (None,) * ndim, layout)
    spread: jax.Array = grid.spread(filters)
    return spread


def _add_blocks(
    weights: jax.Array, axis: int, member: jax.Array, power: Callable[..., jax.Array] = jnp.positive
) -> jax.Array:
    """Sums what is at offsets 0, p, 2p, ... from each of the first p, less ``member`` each time."""
    size, period = weights.shape[axis], member.shape[axis]
    whole = size - size % period
    cut = functools.partial(lax.slice_in_dim, weights, axis=axis)
    if whole // period > _MOST_BLOCKS:
        shape = (*weights.shape[:axis], whole // period, period, *weights.shape[axis + 1 :])
        total = power(cut(0, whole).reshape(shape) - jnp.expand_dims(member, axis)).sum(axis)
    else:
        blocks = (power(cut(start, start + period) - member) for start in range(0, whole, period))
        total = functools.reduce(jnp.add, blocks)
    rest = size - whole
    if not rest:
        return total
    head, tail = jnp.split(total, [rest], axis)
    last = power(cut(whole, size) - lax.slice_in_dim(member, 0, rest, axis=axis))
    return jnp.concatenate([head + last, tail], axis)
