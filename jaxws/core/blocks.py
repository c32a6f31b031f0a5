"""Filters that neighbouring positions have in common: between a convolution and an LC layer.

The positions of a layer fall into blocks of b x b neighbours, and each block has one filter. Blocks
of one position are a locally connected layer, and one block of all positions is a convolution.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def block_count(positions: Sequence[int], block_size: Sequence[int]) -> tuple[int, ...]:
    """The number of blocks along each axis; the last one may have fewer positions.

    Args:
      positions: (h, w), or likewise in 1-D and 3-D.
      block_size: positions of a block, one number per axis.

    Returns:
      One number per axis.

    Example:
      >>> block_count((8, 7), (4, 4))
      (2, 2)
    """
    return tuple(-(-size // b) for size, b in zip(positions, block_size, strict=True))


def expand_blocks(
    filters: jax.Array, positions: Sequence[int], block_size: Sequence[int]
) -> jax.Array:
    """Gives every position the filter of its block.

    Args:
      filters: shape (ceil(h / b), ceil(w / b), ...), and likewise in 1-D and 3-D.
      positions: (h, w), or likewise.
      block_size: as in :func:`block_count`.

    Returns:
      Shape (h, w, ...).

    Example:
      >>> expand_blocks(jnp.array([1, 2]), (5,), (3,)).tolist()
      [1, 1, 1, 2, 2]
    """
    for axis, (size, b) in enumerate(zip(positions, block_size, strict=True)):
        if b == 1:
            continue
        repeated = jnp.repeat(filters, b, axis=axis, total_repeat_length=filters.shape[axis] * b)
        filters = jax.lax.slice_in_dim(repeated, 0, size, axis=axis)
    return filters
