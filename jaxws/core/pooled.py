"""Shared weights, kept as one filter per pool: what ws(1) leaves between steps.

Once weights have been shared, a layer of h * w positions has k * k filters, position (h, w) using
filter (h mod k, w mod k). Reading those in place of all h * w is what makes ws(1) cheaper than no
sharing: they stay in a cache or on the chip, while the layer's weights are the largest thing that a
step moves. Only the optimizer needs a gradient per position, to keep moments per position; the
*probe* is where it arrives: an array of zeros of the whole layer's shape, added to the weights. It
is never read, and so never written to memory by a compiled step.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxws.core.local_kernels import (
    Kernel,
    KernelLayout,
    PyTree,
    map_layouts,
    map_local_kernels,
    position_ndim,
)
from jaxws.core.pools import Grid, make_grid, spread_pools
from jaxws.core.shapes import Filters


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["probe", "filters"],
    meta_fields=["positions"],
)
@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no one truth value
class PooledKernel(KernelLayout):
    """A pytree node in place of a leaf named ``local_kernel``, with its shape and dtype.

    Attributes:
      filters: one filter per pool, shape (p, q, i, j, c / groups, f), or likewise in 1-D and 3-D;
        packed (:class:`jaxws.core.packed.PackedKernel`) where the layer's weights were.
      positions: (h, w), or likewise.
      probe: zeros of shape (h, w, i, j, c / groups, f), to differentiate with respect to, or None.
        First derivatives only.
    """

    filters: Any
    positions: tuple[int, ...]
    probe: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the layer's weights: (h, w, i, j, c / groups, f)."""
        return (*self.positions, *self.filters.shape[len(self.positions) :])

    @property
    def dtype(self) -> np.dtype:
        """Of the filters."""
        dtype: np.dtype = self.filters.dtype
        return dtype

    def spread(self) -> Any:
        """The layer's weights: each position's filter, and the probe."""
        weights = jax.tree.map(lambda array: spread_pools(array, self.positions), self.filters)
        return weights if self.probe is None else jax.tree.map(jnp.add, weights, self.probe)

    def to_array(self) -> Filters:
        """Of shape (h, w, i, j, c / groups, f)."""
        weights = self.spread()
        return weights.to_array() if isinstance(weights, KernelLayout) else weights

    def is_pooled_by(self, grid: Grid) -> bool:
        """Whether weights agree within these pools: each of them lies within one of ours."""
        ours = self.filters.shape[: len(self.positions)]
        return all(theirs % own == 0 for own, theirs in zip(ours, grid.periods, strict=True))

    def pooled_by(self, grid: Grid) -> PooledKernel:
        """The layer with its weights shared over pools; as it is if they are already."""
        return self if self.is_pooled_by(grid) else _pool(self.spread(), grid)


def pool_kernels(params: PyTree, *, pools: str = "grid", missing_ok: bool = False) -> PyTree:
    """Shares weights as :func:`jaxws.share_weights` does, and keeps one filter per pool.

    Args:
      params: any pytree; leaves named ``local_kernel`` may be packed.
      pools: as in :func:`jaxws.share_weights`.
      missing_ok: as there.

    Returns:
      A pytree with a :class:`PooledKernel` in place of each leaf named ``local_kernel``.

    Raises:
      ValueError: as :func:`jaxws.share_weights`; a layer with a mask.

    Example:
      >>> pooled = pool_kernels({"local_kernel": jnp.ones((8, 8, 3, 3, 16, 32)), "bias": 0})
      >>> pooled["local_kernel"].filters.shape, pooled["local_kernel"].shape
      ((3, 3, 3, 3, 16, 32), (8, 8, 3, 3, 16, 32))
    """

    def pool(_: str, kernel: Any) -> PooledKernel:
        grid = make_grid(kernel, pools)
        return kernel.pooled_by(grid) if is_pooled(kernel) else _pool(kernel, grid)

    needed_by = None if missing_ok else "pool_kernels"
    return map_local_kernels(pool, params, needed_by=needed_by, masks={})  # none with a mask


def first_filters(params: PyTree, *, pools: str = "grid") -> PyTree:
    """Keeps the first filter of each pool, which is that of all where weights are shared already.

    Unlike a mean, it is that filter to the last bit on all platforms.

    Args:
      params: as of :func:`pool_kernels`.
      pools: as there.

    Returns:
      As :func:`pool_kernels`.

    Example:
      >>> params = {"local_kernel": jnp.arange(4.0).reshape(4, 1, 1, 1)}
      >>> float(first_filters(params)["local_kernel"].filters.sum())
      0.0
    """

    def pool(_: str, kernel: Any) -> PooledKernel:
        grid = make_grid(kernel, pools)
        if isinstance(kernel, PooledKernel):
            return kernel.pooled_by(grid)
        first = tuple(slice(period) for period in grid.periods)
        filters = jax.tree.map(lambda array: jnp.asarray(array)[first], kernel)
        return PooledKernel(filters, tuple(kernel.shape[: position_ndim(kernel)]))

    return map_local_kernels(pool, params, masks={})  # none with a mask


def _pool(kernel: Kernel, grid: Grid) -> PooledKernel:
    filters = jax.tree.map(lambda a: grid.mean(jnp.asarray(a)).astype(a.dtype), kernel)
    return PooledKernel(filters, tuple(kernel.shape[: position_ndim(kernel)]))


def expand_pools(tree: PyTree) -> PyTree:
    """Gives every position its pool's filter; a tree without pooled kernels comes back as it is.

    Args:
      tree: any pytree.

    Returns:
      A pytree with weights of shape (h, w, i, j, c / groups, f) in place of pooled ones.

    Example:
      >>> params = {"local_kernel": jnp.arange(4.0).reshape(4, 1, 1, 1)}
      >>> expand_pools(pool_kernels(params))["local_kernel"].ravel()
      Array([1.5, 1.5, 1.5, 1.5], dtype=float32)
    """
    return map_layouts(PooledKernel.spread, tree, PooledKernel)


def holds_pooled(tree: PyTree) -> bool:
    """Whether any kernel of a tree is pooled.

    Args:
      tree: any pytree.

    Returns:
      True if there is a :class:`PooledKernel` in it.

    Example:
      >>> holds_pooled({"local_kernel": jnp.ones((2, 1, 1, 1))})
      False
    """
    return any(is_pooled(node) for node in jax.tree.leaves(tree, is_leaf=is_pooled))


def probes(params: PyTree) -> PyTree:
    """What to differentiate with respect to, for a gradient at every position.

    Args:
      params: any pytree.

    Returns:
      The pytree with zeros of the layer's shape, packed if the filters are, in place of each
      pooled kernel, and all other leaves as they are.

    Example:
      >>> params = {"local_kernel": jnp.ones((8, 1, 2, 3)), "bias": jnp.ones(2)}
      >>> jax.tree.map(jnp.sum, probes(pool_kernels(params)))
      {'bias': Array(2., dtype=float32), 'local_kernel': Array(0., dtype=float32)}
    """

    def zeros(kernel: PooledKernel) -> Any:
        shapes = jax.eval_shape(dataclasses.replace(kernel, probe=None).spread)
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    return map_layouts(zeros, params, PooledKernel)


def with_probes(params: PyTree, given: PyTree) -> PyTree:
    """Puts the arrays of :func:`probes` where they belong, or others of their structure.

    Args:
      params: as given to :func:`probes`.
      given: what it returned.

    Returns:
      A pytree equal to ``params`` that depends on ``given``.

    Example:
      >>> pooled = pool_kernels({"local_kernel": jnp.ones((8, 1, 2, 3)), "bias": jnp.ones(2)})
      >>> with_probes(pooled, probes(pooled))["local_kernel"].probe.shape
      (8, 1, 2, 3)
    """
    return jax.tree.map(
        lambda node, leaf: dataclasses.replace(node, probe=leaf) if is_pooled(node) else leaf,
        params,
        given,
        is_leaf=is_pooled,
    )


def is_pooled(node: Any) -> bool:
    """Whether a leaf named ``local_kernel`` is a :class:`PooledKernel`.

    Args:
      node: of a pytree.

    Returns:
      False for arrays and other layouts.

    Example:
      >>> is_pooled(jnp.ones((2, 1, 1, 1)))
      False
    """
    return isinstance(node, PooledKernel)
