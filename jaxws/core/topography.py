"""How alike the filters of a layer are over its positions, as losses that training can descend.

:func:`smoothness_loss` compares neighbours, as the cortex has them side by side, and
:func:`similarity_loss` the neurons of a pool, which weight sharing would make equal. Both are 0
where all filters of a layer agree, and neither depends on the scale of the weights: normalisation
makes networks indifferent to it, and a penalty on plain distances would shrink weights and not
equalise them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxws.core.local_kernels import (
    Kernel,
    KernelLayout,
    PyTree,
    accumulation_dtype,
    map_local_kernels,
    position_ndim,
)
from jaxws.core.masks import present_weights, read_masks
from jaxws.core.packed import PackedKernel
from jaxws.core.pooled import PooledKernel
from jaxws.core.pools import AxisName, Grid, make_grid
from jaxws.core.snr import pool_moments

ARRANGEMENTS = ("positions", "sheet")


def smoothness_loss(
    params: PyTree, *, arrangement: str = "positions", mask: PyTree | None = None
) -> Float[Array, ""]:
    """Cosine distance between the filters of neighbouring neurons, the mean over layers.

    The spatial loss of topographic networks (Lu, Doerig, Bosch, Krahmer, Kaiser, Cichy & Kietzmann,
    "End-to-end topographic networks as models of cortical map formation and human visual behaviour:
    moving beyond convolutions", arXiv:2308.09431): with s the mean of the cosine over pairs of
    neighbours along rows, averaged with that along columns, a layer's loss is (1 - s) / 2. They add
    up layers, each with a factor of its own, and count biases as weights, which this does not. A
    neuron without weights has a cosine of 0 with all others, and no gradient.

    It works on any pytree under ``jit``, ``grad`` and ``vmap``, and on a mesh of
    :mod:`jaxws.parallel.mesh`. Under ``shard_map``, neighbours on other devices are not seen.

    Args:
      params: any pytree; leaves named ``local_kernel`` have shape (h, w, i, j, c / groups, f), or
        likewise in 1-D and 3-D.
      arrangement: ``'positions'``: neighbours of a neuron are those of the same feature at the next
        positions, along each position axis; ``'sheet'``: as in the paper, the features of a
        position fill a tile as square as their number allows, and tiles join to one sheet, in which
        neighbours may be of other features. Sheets are those of 2-D layers.
      mask: as in :func:`jaxws.share_weights`; weights that it removes count as 0.

    Returns:
      A scalar from 0 to 1, in float32 at least. Layers of one neuron in every direction do not
      count.

    Raises:
      ValueError: no layer has neighbours; an unknown arrangement, or a sheet that is not 2-D.

    Example:
      >>> kernel = jnp.asarray([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).reshape(3, 2, 1, 1)
      >>> smoothness_loss({"local_kernel": kernel})  # cosines of 1 and 0
      Array(0.25, dtype=float32)
    """
    if arrangement not in ARRANGEMENTS:
        raise ValueError(f"arrangement={arrangement!r}: expected one of {ARRANGEMENTS}.")
    masks = read_masks(mask)

    def measure(path: str, kernel: Any) -> jax.Array | None:
        present = present_weights(path, kernel, masks)
        return _unit_distance(path, kernel, arrangement, present)

    return _mean_over_layers(measure, params, masks, "smoothness_loss", "has neighbouring neurons")


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
      params: as of :func:`smoothness_loss`.
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

    return _mean_over_layers(measure, params, masks, "similarity_loss", "has pools of two or more")


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


def _mean_over_layers(
    measure: Callable[[str, Any], jax.Array | None],
    params: PyTree,
    masks: Any,
    name: str,
    needed: str,
) -> jax.Array:
    values: list[jax.Array] = []

    def visit(path: str, kernel: Any) -> Any:
        value = measure(path, kernel)
        if value is not None:
            values.append(value)
        return kernel

    map_local_kernels(visit, params, needed_by=name, masks=masks)
    if not values:
        raise ValueError(f"{name}: no layer {needed}, so that there is nothing to compare.")
    mean: jax.Array = jnp.mean(jnp.stack(values))
    return mean


def _unit_distance(
    path: str, kernel: Kernel, arrangement: str, present: jax.Array | None
) -> jax.Array | None:
    """(1 - mean cosine) / 2 of a layer; None without neighbours."""
    ndim = position_ndim(kernel)
    if arrangement == "sheet" and ndim != 2:
        raise ValueError(
            f"arrangement='sheet' with layer {path!r} of {ndim} position axes: a sheet has two;"
            " expected arrangement='positions'."
        )
    weights, axis = _weight_vectors(kernel, ndim, present)
    pairs: list[tuple[int, int | None]] = [(a, None) for a in range(ndim)]
    if arrangement == "sheet":
        feature_axis = ndim if axis == weights.ndim - 1 else ndim + 1
        rows, columns = _tile(weights.shape[feature_axis])
        split = (*weights.shape[:feature_axis], rows, columns, *weights.shape[feature_axis + 1 :])
        weights = weights.reshape(split)
        axis = weights.ndim - 1 if feature_axis == ndim else axis
        pairs = [(0, feature_axis), (1, feature_axis + 1)]
    square = jnp.sum(jnp.square(weights), axis, keepdims=True)
    some = square > 0
    inverse = jnp.where(some, lax.rsqrt(jnp.where(some, square, 1)), 0)
    cosines = [_mean_cosine(weights, inverse, axis, *pair) for pair in pairs]
    found = [cosine for cosine in cosines if cosine is not None]
    return (1 - jnp.mean(jnp.stack(found))) / 2 if found else None


def _weight_vectors(kernel: Kernel, ndim: int, present: jax.Array | None) -> tuple[jax.Array, int]:
    """Filters with one axis of weights, which is (h, w, K, f), or (h, w, f, K) if packed."""
    kernel = kernel.spread() if isinstance(kernel, PooledKernel) else kernel
    if isinstance(kernel, PackedKernel):
        weights, axis = jnp.asarray(kernel.array), ndim + 1
    else:
        assert not isinstance(kernel, KernelLayout)
        array = jnp.asarray(kernel)
        array = array if present is None else jnp.where(present, array, 0)
        weights, axis = array.reshape(*array.shape[:ndim], -1, array.shape[-1]), ndim
    return weights.astype(accumulation_dtype(weights.dtype)), axis


def _tile(features: int) -> tuple[int, int]:
    """Rows and columns of a tile that is as square as it can be."""
    rows = next(n for n in range(int(features**0.5), 0, -1) if features % n == 0)
    return rows, features // rows


def _mean_cosine(
    weights: jax.Array, inverse: jax.Array, axis: int, across: int, within: int | None
) -> jax.Array | None:
    """The mean over neighbours in one direction; None if there are none.

    Args:
      weights: of all neurons.
      inverse: of their norms, likewise with one element along ``axis``.
      axis: of the weights of a neuron.
      across: position axis.
      within: axis of the tiles' rows or columns in that direction; None without tiles.
    """
    kinds = [partial(_next_along, axis=across)]
    if within is not None:
        kinds = [partial(_next_along, axis=within), partial(_next_tile, axis=across, tile=within)]
    total, count = jnp.zeros((), weights.dtype), 0
    for neighbours in kinds:
        (first, second), (one, other) = neighbours(weights), neighbours(inverse)
        total += jnp.sum(jnp.sum(first * second, axis, keepdims=True) * one * other)
        count += one.size
    return total / count if count else None


def _next_along(array: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """All but the last along an axis, and all but the first."""
    size = array.shape[axis]
    before, after = (lax.slice_in_dim(array, at, at + size - 1, axis=axis) for at in (0, 1))
    return before, after


def _next_tile(array: jax.Array, axis: int, tile: int) -> tuple[jax.Array, jax.Array]:
    """The last ones of tiles along a position axis, and the first ones of the tiles after them."""
    size = array.shape[tile]
    last, first = (lax.slice_in_dim(array, at, at + 1, axis=tile) for at in (size - 1, 0))
    return _next_along(last, axis)[0], _next_along(first, axis)[1]
