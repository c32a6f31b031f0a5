"""How well weights are shared: the signal-to-noise ratio of Eq. (6)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxws.core.local_kernels import Kernel, accumulation_dtype, map_local_kernels
from jaxws.core.pooled import PooledKernel
from jaxws.core.pools import AxisName, make_grid
from jaxws.core.sharing import per_pool


def weight_snr(
    params: Any,
    *,
    pools: str = "grid",
    axis_name: AxisName = None,
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

    def measure(path: str, kernel: Any) -> Any:
        ratios[path] = _layer_snr(kernel, pools, axis_name)
        return kernel

    map_local_kernels(measure, params, needed_by=None if missing_ok else "weight_snr")
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


def _layer_snr(kernel: Kernel, pools: str, axis_name: AxisName) -> Float[Array, ""]:
    grid = make_grid(kernel, pools, axis_name)
    if isinstance(kernel, PooledKernel) and kernel.is_pooled_by(grid):
        return jnp.asarray(jnp.inf, accumulation_dtype(kernel.dtype))  # no need to spread it
    # Of packed kernels, the arrays: a mean over all weights has no use for their order.
    (variance,) = jax.tree.leaves(per_pool(lambda array: grid.moments(array)[1], kernel))
    (mean,) = jax.tree.leaves(per_pool(grid.mean, kernel))
    ratio = signal_to_noise(mean, variance)
    counted = grid.counts(ratio.ndim) > 1
    if not counted.any():
        return jnp.asarray(jnp.inf, ratio.dtype)
    return jnp.mean(ratio, where=jnp.broadcast_to(counted, ratio.shape))
