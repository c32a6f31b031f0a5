"""Filters of every position as combinations of a few: low-rank locally connected layers.

Elsayed, Ramachandran, Shlens and Kornblith (Revisiting Spatial Invariance with Low-Rank Local
Connectivity, ICML 2020). With r the rank::

    k[h, w, i, j, c, f] = sum_r a[h, w, r] * basis[r, i, j, c, f]

One filter in the basis is a convolution, as many as there are positions a locally connected layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxws.core.local_kernels import accumulation_dtype


def combination_weights(parts: Sequence[jax.Array], *, normalise: bool = True) -> jax.Array:
    """How much of each filter of the basis a position has: the sum of a part for each axis.

    Args:
      parts: one array per spatial axis, (h, r) and (w, r), or one of (h, w, r) for weights that are
        not sums of rows and columns.
      normalise: whether they go through a softmax over r, as in the paper's experiments.

    Returns:
      a, shape (h, w, r), or likewise in 1-D and 3-D.

    Example:
      >>> a = combination_weights([jnp.zeros((5, 2)), jnp.zeros((4, 2))])
      >>> a.shape, float(a[0, 0, 0])
      ((5, 4, 2), 0.5)
    """
    ndim = len(parts)
    if ndim > 1:
        parts = [
            jnp.expand_dims(part, [other for other in range(ndim) if other != axis])
            for axis, part in enumerate(parts)
        ]
    total = sum(parts[1:], start=parts[0])
    return jax.nn.softmax(total, axis=-1) if normalise else total


def low_rank_filters(basis: jax.Array, combination: jax.Array) -> jax.Array:
    """The filters of all positions, to be given to :func:`jaxws.local_conv`.

    Args:
      basis: shape (r, i, j, c / groups, f), or likewise in 1-D and 3-D.
      combination: shape (h, w, r), by :func:`combination_weights`.

    Returns:
      Shape (h, w, i, j, c / groups, f), in the promoted dtype, summed in float32 at least.

    Example:
      >>> low_rank_filters(jnp.ones((2, 3, 3, 4, 8)), jnp.full((5, 5, 2), 0.5)).shape
      (5, 5, 3, 3, 4, 8)
    """
    dtype = jnp.result_type(basis, combination)
    filters: jax.Array = jnp.tensordot(
        combination.astype(dtype),
        basis.astype(dtype),
        axes=1,
        preferred_element_type=accumulation_dtype(dtype),
    )
    return filters.astype(dtype)
