"""How alike the filters of neighbouring neurons are, as a loss that training can descend.

It is 0 where all filters of a layer agree, and does not depend on the scale of the weights:
normalisation makes networks indifferent to it, and a penalty on plain distances would shrink
weights and not equalise them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxws.core.local_kernels import (
    Kernel,
    KernelLayout,
    Masks,
    PyTree,
    accumulation_dtype,
    map_local_kernels,
    position_ndim,
)
from jaxws.core.masks import present_weights, read_masks
from jaxws.core.packed import PackedKernel
from jaxws.core.pooled import PooledKernel

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

    return mean_over_layers(measure, params, masks, "smoothness_loss", "has neighbouring neurons")


def mean_over_layers(
    measure: Callable[[str, Any], jax.Array | None],
    params: PyTree,
    masks: Masks,
    name: str,
    needed: str,
) -> Float[Array, ""]:
    """The mean of a loss over locally connected layers.

    Args:
      measure: called with a layer's path and filters; None where the layer does not count.
      params: any pytree.
      masks: of its layers, by path.
      name: of the loss, for errors.
      needed: what a layer must have to count, likewise.

    Returns:
      A scalar.

    Raises:
      ValueError: no layer counts.

    Example:
      >>> params = {"local_kernel": jnp.ones((2, 1, 1, 1))}
      >>> mean_over_layers(lambda path, kernel: kernel.sum(), params, {}, "sum", "has weights")
      Array(2., dtype=float32)
    """
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
