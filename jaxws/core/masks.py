"""Partial connectivity: pools of layers in which a mask removes weights.

A mask is multiplied onto a layer's filters, and a weight that it removes does nothing. It must not
count in its pool either: means, variances and sizes are those of the weights that are there.

Parameters alone do not tell which these are. So a layer with a mask names its filters
``masked_local_kernel``, and keeps the mask as a variable of the collection ``masks``; functions
that need the mask refuse such a layer unless they are given it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_map_with_path
from jaxtyping import Array, Bool, Float

from jaxws.core.local_kernels import (
    MASKED_KERNEL,
    KernelLayout,
    Masks,
    PyTree,
    accumulation_dtype,
    layer_of,
    position_ndim,
)
from jaxws.core.pools import Grid


def read_masks(mask: PyTree | None) -> Masks:
    """Lists masks by layer.

    Args:
      mask: a pytree with a mask for each layer that has one, under the names that its parameters
        have: ``variables["masks"]``, or a dict by the layer's path; an array for a tree of
        parameters that is one layer; None for none.

    Returns:
      A dict from the layer's path to its mask.

    Example:
      >>> sorted(read_masks({"conv1": {"masked_local_kernel": 1.0}, "layer1_0/conv2": 0.0}))
      ['conv1', 'layer1_0/conv2']
    """
    leaves = jax.tree_util.tree_leaves_with_path(mask)
    return {layer_of(path): leaf for path, leaf in leaves}


def present_weights(layer: str, kernel: Any, masks: Mapping[str, Any]) -> Bool[Array, "..."] | None:
    """Which weights of a layer its mask leaves.

    Args:
      layer: its path.
      kernel: its filters, shape (h, w, i, j, c / groups, f), or likewise in 1-D and 3-D.
      masks: as :func:`read_masks` returns them.

    Returns:
      An array that broadcasts to the kernel's shape and has its position axes, true where the mask
      is not zero; None if the layer has no mask.

    Raises:
      ValueError: a mask that does not broadcast to the kernel; filters in a layout of their own.

    Example:
      >>> present_weights("", jnp.ones((4, 3, 1, 1)), {"": jnp.ones((3, 1, 1))}).shape
      (4, 3, 1, 1)
    """
    if layer not in masks:
        return None
    if isinstance(kernel, KernelLayout):
        raise ValueError(
            f"layer {layer!r} has a mask, and its filters as {type(kernel).__name__}: expected an"
            " array, by jaxws.core.local_kernels.to_arrays."
        )
    mask, shape = jnp.asarray(masks[layer]), kernel.shape
    if mask.ndim > len(shape) or any(
        own not in (1, size) for own, size in zip(mask.shape[::-1], shape[::-1], strict=False)
    ):
        raise ValueError(
            f"the mask of layer {layer!r} has shape {mask.shape}: expected one that broadcasts to"
            f" the shape of its filters, {shape}."
        )
    ndim, own = position_ndim(kernel), (1,) * (len(shape) - mask.ndim) + mask.shape
    return jnp.broadcast_to(mask.astype(bool).reshape(own), (*shape[:ndim], *own[ndim:]))


def without_masked(params: PyTree) -> PyTree:
    """Leaves out filters that have a mask, for what is to be known of all other layers.

    Args:
      params: any pytree.

    Returns:
      The pytree with None in place of each ``masked_local_kernel``.

    Example:
      >>> without_masked({"masked_local_kernel": 1.0, "bias": 0.0})
      {'bias': 0.0, 'masked_local_kernel': None}
    """

    def keep(path: Any, leaf: Any) -> Any:
        return (
            None if MASKED_KERNEL in keystr(path, simple=True, separator="/").split("/") else leaf
        )

    return tree_map_with_path(keep, params, is_leaf=lambda node: isinstance(node, KernelLayout))


def masked_mean(
    grid: Grid, weights: Float[Array, "..."], present: Bool[Array, "..."]
) -> Float[Array, "..."]:
    """The mean of each pool over the weights that are there, in float32 at least.

    Args:
      grid: the layer's pools.
      weights: shape (h, w, i, j, c / groups, f), or likewise.
      present: by :func:`present_weights`.

    Returns:
      Means of the shape (*periods, i, j, c / groups, f); 0 where no weight of a pool is there.

    Example:
      >>> from jaxws.core.pools import make_grid
      >>> kernel = jnp.asarray([1.0, 9.0, 3.0]).reshape(3, 1, 1, 1)
      >>> present = jnp.asarray([True, False, True]).reshape(3, 1, 1, 1)
      >>> masked_mean(make_grid(kernel, "grid"), kernel, present).item()
      2.0
    """
    weights = weights.astype(accumulation_dtype(weights.dtype))
    share = present_share(grid, present)
    divisor = jnp.where(share == 0, 1, share)
    mean: jax.Array = grid.mean(jnp.where(present, weights, 0)) / divisor
    # Once more, of what rounding has left: weights that are equal come back to the last bit.
    rest: jax.Array = grid.mean(jnp.where(present, weights - grid.spread(mean), 0)) / divisor
    return mean + rest


def masked_variance(
    grid: Grid, weights: Float[Array, "..."], present: Bool[Array, "..."]
) -> Float[Array, "..."]:
    """The variance of each pool over the weights that are there, as :func:`masked_mean`.

    Example:
      >>> from jaxws.core.pools import make_grid
      >>> kernel = jnp.asarray([1.0, 9.0, 3.0]).reshape(3, 1, 1, 1)
      >>> present = jnp.asarray([True, False, True]).reshape(3, 1, 1, 1)
      >>> masked_variance(make_grid(kernel, "grid"), kernel, present).item()
      1.0
    """
    weights = weights.astype(accumulation_dtype(weights.dtype))
    share = present_share(grid, present)
    deviations = weights - grid.spread(masked_mean(grid, weights, present))
    squares: jax.Array = grid.mean(jnp.where(present, jnp.square(deviations), 0))
    variance: jax.Array = squares / jnp.where(share == 0, 1, share)
    return variance


def present_share(grid: Grid, present: Bool[Array, "..."]) -> Float[Array, "..."]:
    """The fraction of each pool that is there: (h, w, ...) to (*periods, ...), in float32.

    Example:
      >>> from jaxws.core.pools import make_grid
      >>> present = jnp.asarray([True, False]).reshape(2, 1, 1, 1)
      >>> present_share(make_grid(present.astype(float), "grid"), present).item()
      0.5
    """
    share: jax.Array = grid.mean(present.astype(jnp.float32))
    return share


def present_counts(grid: Grid, present: Bool[Array, "..."]) -> Float[Array, "..."]:
    """How many weights of each pool are there.

    Example:
      >>> from jaxws.core.pools import make_grid
      >>> present = jnp.asarray([True, False, True]).reshape(3, 1, 1, 1)
      >>> present_counts(make_grid(present.astype(float), "grid"), present).item()
      2.0
    """
    counts: np.ndarray = grid.counts(present.ndim)
    return jnp.round(present_share(grid, present) * counts)


def share_present(
    grid: Grid, weights: Float[Array, "..."], present: Bool[Array, "..."]
) -> Float[Array, "..."]:
    """Gives every weight the mean of those of its pool that are there.

    Weights that are not there get it as well, unless all of their pool are such. Arguments as of
    :func:`masked_mean`; shape and dtype are those of the weights.

    Example:
      >>> from jaxws.core.pools import make_grid
      >>> kernel = jnp.asarray([1.0, 9.0, 3.0]).reshape(3, 1, 1, 1)
      >>> present = jnp.asarray([True, False, True]).reshape(3, 1, 1, 1)
      >>> share_present(make_grid(kernel, "grid"), kernel, present).ravel()
      Array([2., 2., 2.], dtype=float32)
    """
    has_any = grid.spread(present_share(grid, present)) > 0
    shared = grid.spread(masked_mean(grid, weights, present)).astype(weights.dtype)
    return jnp.where(has_any, shared, weights)
