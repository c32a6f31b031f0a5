"""How well weights are shared: the signal-to-noise ratio of Eq. (6)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxws.core.local_kernels import Kernel, PyTree, accumulation_dtype, map_local_kernels
from jaxws.core.masks import (
    masked_mean,
    masked_variance,
    present_counts,
    present_weights,
    read_masks,
)
from jaxws.core.pooled import PooledKernel
from jaxws.core.pools import AxisName, Grid, make_grid
from jaxws.core.sharing import per_pool


def weight_snr(
    params: Any,
    *,
    pools: str = "grid",
    axis_name: AxisName = None,
    mask: PyTree | None = None,
    missing_ok: bool = False,
) -> dict[str, Float[Array, ""]]:
    """Signal-to-noise ratio of the weights within pools, Eq. (6), per locally connected layer.

    For each weight of the filter, the squared mean over the pool's neurons divided by the variance
    over them; then the mean over the filter's weights, as in Eq. (6), the layer's pools and its
    features. The paper plots ``-log`` of it (Figs 4-6).

    Args:
      params: any pytree; leaves named ``local_kernel`` have shape (h, w, i, j, c / groups, f).
      pools: as in :func:`jaxws.share_weights`.
      axis_name: as in :func:`jaxws.share_weights`.
      mask: as in :func:`jaxws.share_weights`; weights that it removes do not count.
      missing_ok: allows a pytree without any such leaf, which is an error otherwise.

    Returns:
      A dict from the layer's path, such as ``'layer1_0/conv1'``, to a scalar. It is infinite where
      weights of a pool agree exactly, as after sharing. Pools of a single neuron have no variance
      and do not count; where all are such, the ratio is infinite.

    Raises:
      ValueError: as :func:`jaxws.share_weights`.

    Example:
      >>> weight_snr({"conv1": {"local_kernel": jnp.asarray([1.0, 3.0]).reshape(2, 1, 1, 1)}})
      {'conv1': Array(4., dtype=float32)}
    """
    ratios: dict[str, Float[Array, ""]] = {}
    masks = read_masks(mask)

    def measure(path: str, kernel: Any) -> Any:
        present = present_weights(path, kernel, masks)
        ratios[path] = _layer_snr(kernel, pools, axis_name, present)
        return kernel

    needed_by = None if missing_ok else "weight_snr"
    map_local_kernels(measure, params, needed_by=needed_by, masks=masks)
    return ratios


def signal_to_noise(
    mean: Float[Array, "*shape"], variance: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """The ratio within Eq. (6).

    Args:
      mean: over neurons.
      variance: over neurons, of the same shape.

    Returns:
      Squared mean over variance; infinite where there is no variance.

    Example:
      >>> signal_to_noise(jnp.array([3.0, 0.0]), jnp.array([2.0, 0.0]))
      Array([4.5, inf], dtype=float32)
    """
    exact = variance == 0
    return jnp.where(exact, jnp.inf, jnp.square(mean) / jnp.where(exact, 1, variance))


def _layer_snr(
    kernel: Kernel, pools: str, axis_name: AxisName, present: Bool[Array, "..."] | None
) -> Float[Array, ""]:
    grid = make_grid(kernel, pools, axis_name)
    if isinstance(kernel, PooledKernel) and kernel.is_pooled_by(grid):
        return jnp.asarray(jnp.inf, accumulation_dtype(kernel.dtype))  # no need to spread it
    return snr_of_moments(*pool_moments(kernel, grid, present))


def pool_moments(
    kernel: Kernel, grid: Grid, present: Bool[Array, "..."] | None = None
) -> tuple[jax.Array, jax.Array, Any]:
    """What :func:`snr_of_moments` needs to know of a layer's pools, in one pass over its weights.

    Args:
      kernel: filters, shape (h, w, i, j, c / groups, f), or likewise in 1-D and 3-D; in any layout.
      grid: of its pools.
      present: which weights a mask leaves (:func:`jaxws.core.masks.present_weights`), or None.

    Returns:
      Mean and variance of every pool, and the number of neurons in each, shaped to broadcast
      against them. Of packed kernels the order of the weights is another.

    Example:
      >>> kernel = jnp.asarray([1.0, 3.0]).reshape(2, 1, 1, 1)
      >>> [x.item() for x in pool_moments(kernel, make_grid(kernel, "grid"))]
      [2.0, 1.0, 2.0]
    """
    if present is not None:
        mean = per_pool(lambda weights: masked_mean(grid, weights, present), kernel)
        variance = per_pool(lambda weights: masked_variance(grid, weights, present), kernel)
        return mean, variance, present_counts(grid, present)
    # Of packed kernels, the arrays: a mean over all weights has no use for their order.
    mean, variance = jax.tree.leaves(per_pool(grid.moments, kernel))
    return mean, variance, grid.counts(mean.ndim)


def snr_of_moments(mean: jax.Array, variance: jax.Array, counts: Any) -> Float[Array, ""]:
    """The ratio of a layer, of what is known of its pools.

    Args:
      mean: over every pool.
      variance: over every pool, of the same shape.
      counts: of neurons in the pools, shaped to broadcast against them.

    Returns:
      The mean over pools of several neurons; infinite if there are none.

    Example:
      >>> snr_of_moments(jnp.array([2.0, 9.0]), jnp.array([1.0, 0.0]), jnp.array([2, 1]))
      Array(4., dtype=float32)
    """
    ratio = signal_to_noise(mean, variance)
    counted = jnp.broadcast_to(counts > 1, ratio.shape)
    mean_ratio = jnp.mean(ratio, where=counted)
    return jnp.where(counted.any(), mean_ratio, jnp.inf)
