"""Weight sharing as an operation on parameters: every weight becomes the mean of its pool.

Lateral connections can only equalise neurons that see the same input. A repeating input pattern
of the kernel's size k x k shows the same patch to every k-th neuron, so the output positions of a
layer fall into k * k interleaved grids (i::k, j::k), and a pool is one such grid for one kernel
offset, input channel and feature (Sec. 4 of the paper). After sharing, a layer is nearly a
convolution: it has k * k filters, each tied over its grid. A 1 x 1 layer has one pool and becomes a
convolution.

The functions take any pytree and change its leaves named ``local_kernel`` only; see
:mod:`jaxws.core.local_kernels`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec, auto_axes
from jaxtyping import Array, Float

from jaxws.core.local_kernels import Kernel, PyTree, map_local_kernels, position_ndim
from jaxws.core.masks import (
    masked_mean,
    masked_variance,
    present_counts,
    present_weights,
    read_masks,
    share_present,
)
from jaxws.core.partitioning import may_be_partitioned
from jaxws.core.pooled import PooledKernel
from jaxws.core.pools import AxisName, make_grid
from jaxws.core.shapes import Filters, NumpyFilters, PoolFilters


def share_weights(
    params: PyTree,
    *,
    pools: str = "grid",
    axis_name: AxisName = None,
    mask: PyTree | None = None,
    missing_ok: bool = False,
) -> PyTree:
    """Replaces every locally connected weight by the mean of its pool (instant sharing).

    A linear projection: it keeps every pool's mean, and it is idempotent to the last bit. Works
    under ``jit``, ``vmap``, ``grad``, ``pmap`` and ``shard_map`` and on ``nnx.State``. On a mesh
    of :mod:`jaxws.parallel.mesh`, weights that are split by position stay where they are, and
    devices send one sum per pool. Give it the parameters alone: in the optimizer's state it would
    find and average moments, which the paper leaves alone.

    The number of axes of a kernel says whether its layer is 1-D, 2-D or 3-D. So parameters with
    further axes in front, as of layers stacked by ``nn.scan`` or ``nn.vmap``, belong under
    ``jax.vmap``, once for each: with two, a 1-D layer cannot be told from a 2-D one.

    Args:
      params: any pytree; leaves named ``local_kernel`` have shape (h, w, i, j, c / groups, f).
      pools: ``'grid'`` for the k * k interleaved grids, ``'global'`` for one pool of all positions,
        which makes every layer a convolution.
      axis_name: only where positions are split over a mapped axis, as in ``shard_map``: the name of
        the axis that holds equal, consecutive slabs of the first position axis, or a sequence of
        one name or None per position axis. Replicated weights need none.
      mask: of layers in which a mask removes weights: ``variables["masks"]``, or a dict from the
        layer's path to an array that broadcasts to its filters and is zero where a weight is
        removed. Such weights do not count; they too become the mean of those that are there.
      missing_ok: allows a pytree without any such leaf, which is an error otherwise.

    Returns:
      A pytree of the same structure, shapes, dtypes and shardings.

    Raises:
      ValueError: no ``local_kernel``, or one of the wrong rank; unknown ``pools``; too many axis
        names; a layer with a mask that is not given, or a mask that does not fit.

    Example:
      >>> params = {"conv1": {"local_kernel": jnp.arange(4.0).reshape(4, 1, 1, 1)}}
      >>> share_weights(params)["conv1"]["local_kernel"].ravel()
      Array([1.5, 1.5, 1.5, 1.5], dtype=float32)
    """
    masks = read_masks(mask)

    def share(path: str, kernel: Any) -> Any:
        grid = make_grid(kernel, pools, axis_name)
        present = present_weights(path, kernel, masks)
        if isinstance(kernel, PooledKernel):
            return kernel.pooled_by(grid)

        def share_array(array: jax.Array) -> jax.Array:
            if present is not None:
                return share_present(grid, array, present)
            shared: jax.Array = grid.spread(grid.mean(array))
            return shared.astype(array.dtype)

        # The array of packed kernels has the same position axes in front.
        if grid.layout is not None:  # it says where weights lie
            return jax.tree.map(lambda a: share_array(jnp.asarray(a)), kernel)
        return jax.tree.map(lambda a: _keep_sharding(share_array, jnp.asarray(a)), kernel)

    needed_by = None if missing_ok else "share_weights"
    return map_local_kernels(share, params, needed_by=needed_by, masks=masks)


def pool_mean(
    local_kernel: Filters | NumpyFilters | PooledKernel,
    *,
    pools: str = "grid",
    axis_name: AxisName = None,
    mask: Any = None,
) -> PoolFilters:
    """The mean filter of every pool, in float32 at least.

    Args:
      local_kernel: filters, shape (h, w, i, j, c / groups, f).
      pools: as in :func:`share_weights`.
      axis_name: as in :func:`share_weights`.
      mask: of this layer, or None: an array that broadcasts to the filters, zero where a weight is
        removed. Where it leaves none of a pool, the result is 0.

    Returns:
      Filters of shape (min(i, h), min(j, w), i, j, c / groups, f); entry (a, b) is the mean over
      the positions (a::i, b::j). With ``pools='global'`` the shape starts with (1, 1).

    Raises:
      ValueError: as :func:`share_weights`.

    Example:
      >>> pool_mean(jnp.ones((32, 32, 3, 3, 16, 16))).shape
      (3, 3, 3, 3, 16, 16)
    """
    grid, present = make_grid(local_kernel, pools, axis_name), _present(local_kernel, mask)
    mean = grid.mean if present is None else partial(masked_mean, grid, present=present)
    means: PoolFilters = per_pool(mean, local_kernel)
    return means


def pool_variance(
    local_kernel: Filters | NumpyFilters | PooledKernel,
    *,
    pools: str = "grid",
    axis_name: AxisName = None,
    mask: Any = None,
) -> PoolFilters:
    """The variance of the weights within every pool, divided by the pool's size, not size - 1.

    Args:
      local_kernel: filters, shape (h, w, i, j, c / groups, f).
      pools: as in :func:`share_weights`.
      axis_name: as in :func:`share_weights`.
      mask: of this layer, or None: an array that broadcasts to the filters, zero where a weight is
        removed. Where it leaves none of a pool, the result is 0.

    Returns:
      Variances of the shape of :func:`pool_mean`.

    Raises:
      ValueError: as :func:`share_weights`.

    Example:
      >>> pool_variance(jnp.asarray([0.0, 2.0]).reshape(2, 1, 1, 1)).ravel()
      Array([1.], dtype=float32)
    """
    grid, present = make_grid(local_kernel, pools, axis_name), _present(local_kernel, mask)

    def variance(weights: jax.Array) -> jax.Array:
        if present is not None:
            return masked_variance(grid, weights, present)
        within: jax.Array = grid.moments(weights)[1]
        return within

    variances: PoolFilters = per_pool(variance, local_kernel)
    return variances


def pool_sizes(
    local_kernel: Kernel, *, pools: str = "grid", axis_name: AxisName = None, mask: Any = None
) -> Float[np.ndarray | Array, "..."]:
    """The number of neurons in every pool; it differs by one position where k does not divide h.

    Args:
      local_kernel: filters, shape (h, w, i, j, c / groups, f).
      pools: as in :func:`share_weights`.
      axis_name: as in :func:`share_weights`.
      mask: as in :func:`pool_mean`; only neurons that have the weight count.

    Returns:
      Counts, float32, shaped to broadcast against :func:`pool_mean`.

    Raises:
      ValueError: as :func:`share_weights`.

    Example:
      >>> pool_sizes(jnp.ones((8, 3, 16, 16))).ravel()  # 1-D: 8 positions, kernel size 3
      array([3., 3., 2.], dtype=float32)
    """
    grid, present = make_grid(local_kernel, pools, axis_name), _present(local_kernel, mask)
    if present is None:
        return grid.counts(local_kernel.ndim)
    return present_counts(grid, present)


def _present(kernel: Kernel, mask: Any) -> Any:
    """Which weights a mask leaves, or None without one."""
    return None if mask is None else present_weights("", kernel, {"": mask})


def per_pool(function: Callable[[jax.Array], Any], kernel: Kernel) -> Any:
    """Applies a function from (h, w, ...) to (pools, pools, ...), whatever the sharding.

    Args:
      function: a reduction over the positions of each pool, or several.
      kernel: filters, in any layout.

    Returns:
      What the function returns, packed if the filters are.

    Example:
      >>> kernel = jnp.ones((8, 8, 3, 3, 16, 32))
      >>> per_pool(make_grid(kernel, "grid").mean, kernel).shape
      (3, 3, 3, 3, 16, 32)
    """
    ndim = position_ndim(kernel)
    kernel = kernel.spread() if isinstance(kernel, PooledKernel) else kernel

    def apply(array: jax.Array) -> Any:
        sharding = jax.typeof(array).sharding
        if AxisType.Explicit not in sharding.mesh.axis_types:
            return function(array)
        spec = PartitionSpec(*(None,) * ndim, *sharding.spec[ndim:])
        named = NamedSharding(sharding.mesh, spec)
        return auto_axes(function, out_sharding=named)(array)

    # The array of packed kernels has the same position axes in front.
    return jax.tree.map(lambda a: apply(jnp.asarray(a)), kernel)


def _keep_sharding(
    function: Callable[[jax.Array], jax.Array], kernel: Float[Array, "*weights"]
) -> Float[Array, "*weights"]:
    """Applies a shape-preserving function so that its result is sharded as its argument is."""
    sharding = jax.typeof(kernel).sharding
    if AxisType.Explicit in sharding.mesh.axis_types:
        kept: jax.Array = auto_axes(function, out_sharding=sharding)(kernel)
        return kept
    if not may_be_partitioned(kernel):
        return function(kernel)
    # The compiler is free to choose under Auto axes, and would gather a kernel split by position.
    # It gives the result and the operands of one operation one sharding, so here is one that it
    # cannot see through, and that costs nothing once the barrier is gone.
    always = lax.optimization_barrier(jnp.array(True))
    return lax.select(always, function(kernel), lax.stop_gradient(kernel))
