"""Sums over the devices of a mesh that do not depend on who adds up what in which order."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def pieces(values: Float[Array, "*shape"], most: int) -> Iterator[Float[Array, "*shape"]]:
    """Cuts numbers into pieces of few bits, which add up to them exactly.

    Sums of up to ``most`` equal numbers are then exact, whoever adds them up in whichever order:
    each sum of equal pieces is a number of the dtype. So a mean of equal numbers is that number.

    Args:
      values: of a floating dtype.
      most: number of summands.

    Yields:
      Arrays of the same shape and dtype, the largest part of the numbers first. Derivatives are
      those of the last piece, and so of the sum.

    Example:
      >>> [float(piece) for piece in pieces(jnp.float32(0.1), most=100)]
      [0.09999942779541016, 5.736947059631348e-07]
    """
    bits = jnp.finfo(values.dtype).nmant + 1
    kept = bits - math.ceil(math.log2(max(most, 2)))
    rest = values
    for _ in range(math.ceil(bits / max(kept, 1)) - 1):
        high = lax.stop_gradient(_highest(rest, kept))
        yield high
        rest = rest - high
    yield rest


def mean_over_devices(
    sums: Sequence[Float[Array, "*shape"]], counts: jax.typing.ArrayLike, names: Sequence[Any]
) -> Float[Array, "*shape"]:
    """The mean over all devices, by one collective.

    Args:
      sums: of :func:`pieces` of what a device has, in their order.
      counts: number of summands of all devices; broadcasts.
      names: of the mesh axes to add up over.

    Returns:
      The mean.
    """
    totals = lax.psum(jnp.stack(sums), names)
    # XLA would multiply by the inverse of a constant, which rounds.
    divisor = lax.optimization_barrier(jnp.asarray(counts, totals.dtype))
    means = [totals[i] / divisor for i in range(len(sums))]
    mean: jax.Array = functools.reduce(jnp.add, reversed(means))  # the small ones first
    return mean


def _highest(values: jax.Array, kept: int) -> jax.Array:
    """The same numbers with so many significant bits, cut off."""
    width = values.dtype.itemsize * 8
    unsigned = jnp.dtype(f"uint{width}")
    cleared = jnp.finfo(values.dtype).nmant + 1 - kept
    mask = jnp.asarray((2**width - 1) ^ (2**cleared - 1), unsigned)
    return lax.bitcast_convert_type(lax.bitcast_convert_type(values, unsigned) & mask, values.dtype)
