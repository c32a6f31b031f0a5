"""How alike the filters of a pool are, as a loss that training can descend.

It is 0 where weight sharing has made them equal, and does not depend on the scale of the weights,
as that of :mod:`jaxws.core.topography`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxws.core.local_kernels import PyTree, accumulation_dtype
from jaxws.core.masks import present_weights, read_masks
from jaxws.core.pooled import PooledKernel
from jaxws.core.pools import AxisName, Grid, make_grid
from jaxws.core.snr import pool_moments
from jaxws.core.topography import mean_over_layers


def similarity_loss(
    params: PyTree, *, pools: str = "grid", axis_name: AxisName = None, mask: PyTree | None = None
) -> Float[Array, ""]:
    """Variance of the weights within pools over their squared mean, the mean over layers.

    What weight sharing makes 0. The variance is the paper's own objective: Eq. (12) with gamma = 0
    is, for inputs whose covariance is the identity, half of the summed squared distances from the
    pool's mean. It is taken in units of the signal, as in the SNR of Eq. (6), but the ratio is that
    of the layer's means over all pools and weights: the mean of single ratios, as
    :func:`jaxws.weight_snr` has it, has no bound where a pool's mean crosses 0.

    Args:
      params: as of :func:`jaxws.smoothness_loss`.
      pools: as in :func:`jaxws.share_weights`.
      axis_name: as in :func:`jaxws.share_weights`.
      mask: as in :func:`jaxws.share_weights`; weights that it removes do not count.

    Returns:
      A scalar, 0 or more, in float32 at least. Pools of one neuron do not count.

    Raises:
      ValueError: no layer has a pool of several neurons; as :func:`jaxws.share_weights`.

    Example:
      >>> kernel = jnp.asarray([1.0, 3.0]).reshape(2, 1, 1, 1)
      >>> similarity_loss({"local_kernel": kernel})  # variance 1, mean 2
      Array(0.25, dtype=float32)
    """
    masks = read_masks(mask)

    def measure(path: str, kernel: Any) -> jax.Array | None:
        grid = make_grid(kernel, pools, axis_name)
        if not np.any(grid.counts(len(grid.sizes)) > 1):
            return None
        if isinstance(kernel, PooledKernel) and kernel.is_pooled_by(grid):
            # Equal in every pool, where the gradient is 0 too.
            return jnp.zeros((), accumulation_dtype(kernel.dtype))
        present = present_weights(path, kernel, masks)
        if present is None:
            (array,) = jax.tree.leaves(
                kernel.spread() if isinstance(kernel, PooledKernel) else kernel
            )
            array = jnp.asarray(array)
            noise, signal = _noise_and_signal(grid, array.astype(accumulation_dtype(array.dtype)))
        else:
            noise, signal = _sums(*pool_moments(kernel, grid, present))
        exact = noise == 0
        return jnp.where(exact, 0, noise / jnp.where(exact, 1, signal))

    return mean_over_layers(measure, params, masks, "similarity_loss", "has pools of two or more")


def _sums(mean: jax.Array, variance: jax.Array, counts: Any) -> tuple[jax.Array, jax.Array]:
    """Of variances and of squared means, over pools of several neurons."""
    counted = jnp.broadcast_to(counts > 1, mean.shape)
    return jnp.sum(variance, where=counted), jnp.sum(jnp.square(mean), where=counted)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _noise_and_signal(grid: Grid, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``_sums`` of a layer, whose derivatives are one pass over its weights, and not one per block.

    Args:
      grid: of its pools.
      weights: shape (h, w, ...), packed or not.
    """
    mean, variance = grid.moments(weights)
    return _sums(mean, variance, grid.counts(mean.ndim))


def _noise_forward(grid: Grid, weights: jax.Array) -> tuple[Any, jax.Array]:
    return _noise_and_signal(grid, weights), weights


def _noise_backward(
    grid: Grid, weights: jax.Array, slopes: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array]:
    """Of n neurons with mean m, the derivatives are 2 (w - m) / n and 2 m / n."""
    counts = grid.counts(weights.ndim).astype(weights.dtype)
    mean = grid.mean(weights)
    factor = jnp.broadcast_to(jnp.asarray(np.where(counts > 1, 2 / counts, 0)), mean.shape)
    spread, factors = grid.spread(mean), grid.spread(factor)
    return (factors * (slopes[0] * (weights - spread) + slopes[1] * spread),)


_noise_and_signal.defvjp(_noise_forward, _noise_backward)
