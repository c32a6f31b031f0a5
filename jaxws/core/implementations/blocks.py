"""Filters of blocks for implementations that know one filter per position."""

from __future__ import annotations

import jax

from jaxws.core.blocks import expand_blocks
from jaxws.core.implementations.spec import Contraction, Spec, kernel_shape


def expanded(function: Contraction, map_name: str) -> Contraction:
    """Lets a map that knows one filter per position take a filter per block.

    Args:
      function: computes the map without ``spec.block``.
      map_name: as in :class:`jaxws.core.implementations.spec.Implementation`.

    Returns:
      A function that gives every position the filter of its block, or adds gradients up.
    """

    def mapped(a: jax.Array, b: jax.Array, spec: Spec) -> jax.Array:
        block = spec.block
        if block is None:
            return function(a, b, spec)
        positions, each = spec.window.output_size, spec._replace(block=None, filters=None)
        if map_name != "kernel_gradient":
            return function(a, expand_blocks(b, positions, block), each)
        gradient = function(a, b, each)
        shape = jax.ShapeDtypeStruct(kernel_shape(a, b, spec), gradient.dtype)
        spread = jax.linear_transpose(lambda array: expand_blocks(array, positions, block), shape)
        added: jax.Array = spread(gradient)[0]
        return added

    return mapped
