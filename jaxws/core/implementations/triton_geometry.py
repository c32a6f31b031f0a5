"""Which rows meet: the index arithmetic of the GPU kernels.

Everything here runs inside a kernel, on int32 scalars and vectors, and uses only what Pallas can
compile for a GPU. An existence mask that would be all True is None, and costs nothing.

The gradient of the image gathers, so that no two programs add to the same pixel: position q and
offset o meet at pixel r if q * stride + o * dilation = r + low. Modulo the stride that determines o
up to multiples of stride / gcd(stride, dilation), so that only these offsets are visited.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl

from jaxws.core.implementations.spec import Spec

Mask: TypeAlias = jax.Array | None


class Layer(NamedTuple):
    """What a kernel knows when it is compiled.

    Attributes:
      spec: the geometry and dtypes of the layer.
      channels: per group.
      features: per group.
      batch: number of images n.
      dtype: to multiply in.
      filters: how many there are per position axis; they repeat over the positions.
    """

    spec: Spec
    channels: int
    features: int
    batch: int
    dtype: np.dtype
    filters: tuple[int, ...]

    @property
    def terms(self) -> int:
        """Number of terms k = (offset, channel) of each sum of the forward pass."""
        return math.prod(self.spec.window.kernel_size) * self.channels


def filter_of(layer: Layer, position: jax.Array) -> jax.Array:
    """The index of a position's filter."""
    positions = layer.spec.window.output_size
    if layer.filters == positions:
        return position
    coordinates = zip(_unravel(position, positions), layer.filters, strict=True)
    return _ravel([divide(p, count)[1] for p, count in coordinates], layer.filters)


def candidates(layer: Layer) -> tuple[int, ...]:
    """How many offsets per axis may meet a given pixel: every (stride / gcd)-th of them."""
    window = layer.spec.window
    return tuple(
        -(-size * math.gcd(stride, dilation) // stride)
        for size, stride, dilation in zip(
            window.kernel_size, window.strides, window.dilation, strict=True
        )
    )


def patch(
    layer: Layer, position: jax.Array, group: jax.Array, block: jax.Array, size: int
) -> tuple[jax.Array, Mask, jax.Array, Mask]:
    """Terms k of a block, whether they exist, the rows of x that they see, whether those do."""
    window = layer.spec.window
    lanes = lax.iota(jnp.int32, size)
    k = block * size + lanes
    k_exists = None if layer.terms % size == 0 else k < layer.terms
    if layer.channels % size == 0:  # one offset per block, known before its lanes are
        offset, part = divide(block, layer.channels // size)
        channel = part * size + lanes
    else:
        offset, channel = divide(k, layer.channels)
    pixel, seen = [], None
    for p, o, axis in zip(
        _unravel(position, window.output_size),
        _unravel(offset, window.kernel_size),
        range(len(window.kernel_size)),
        strict=True,
    ):
        low, high = window.padding[axis]
        r = p * window.strides[axis] - low + o * window.dilation[axis]
        if low or high:
            seen = both(seen, (r >= 0) & (r < window.input_size[axis]))
        pixel.append(r)
    if seen is not None and seen.ndim == 0:
        seen = jnp.full((size,), seen)
    row = (_ravel(pixel, window.input_size) * layer.spec.groups + group) * layer.channels + channel
    return k, k_exists, row, both(k_exists, seen)


def meeting(
    layer: Layer, pixel: jax.Array, candidate: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The position and offset of a candidate, and whether both exist and meet at the pixel.

    q * stride = r + low - o * dilation has the solutions o = first + t * step, t = 0, 1, ..., if
    r + low is a multiple of gcd(stride, dilation).
    """
    window = layer.spec.window
    position, offset, meets = [], [], jnp.bool_(True)
    for r, t, axis in zip(
        _unravel(pixel, window.input_size),
        _unravel(candidate, candidates(layer)),
        range(len(window.kernel_size)),
        strict=True,
    ):
        stride, dilation = window.strides[axis], window.dilation[axis]
        common = math.gcd(stride, dilation)
        step = stride // common
        pixel_from_edge = r + window.padding[axis][0]
        quotient, remainder = divide(pixel_from_edge, common)
        _, first = divide(quotient * pow(dilation // common, -1, step), step)
        o = first + t * step
        reach = pixel_from_edge - o * dilation
        q, _ = divide(reach, stride)
        meets &= (remainder == 0) & (o < window.kernel_size[axis])
        meets &= (reach >= 0) & (q < window.output_size[axis])
        position.append(q)
        offset.append(o)
    return _ravel(position, window.output_size), _ravel(offset, window.kernel_size), meets


def block_entries(index: jax.Array, size: int, limit: int) -> tuple[jax.Array, Mask]:
    """The entries of a block of an axis, and which of them exist: None for all."""
    entries = index * size + lax.iota(jnp.int32, size)
    return entries, None if limit % size == 0 else entries < limit


def group_entries(index: jax.Array, size: int, per_group: int) -> tuple[jax.Array, jax.Array, Mask]:
    """Blocks of an axis of groups, none of them across two groups: group, entries, existence."""
    group, block = divide(index, pl.cdiv(per_group, size))
    entries, exist = block_entries(block, size, per_group)
    return group, group * per_group + entries, exist


def both(a: Mask, b: Mask) -> Mask:
    """Where two masks are True."""
    if a is None or b is None:
        return b if a is None else a
    return a & b


def divide(index: jax.Array, divisor: int) -> tuple[jax.Array, jax.Array]:
    """Quotient and remainder, rounded towards zero: a single division on the GPU."""
    if divisor == 1:
        return index, index * 0
    quotient = lax.div(index, jnp.full_like(index, divisor))
    return quotient, index - quotient * divisor


def _unravel(index: jax.Array, sizes: Sequence[int]) -> list[jax.Array]:
    """Coordinates of an index, the last axis fastest."""
    coordinates = []
    for size in sizes[:0:-1]:
        index, coordinate = divide(index, size)
        coordinates.append(coordinate)
    return [index, *reversed(coordinates)]


def _ravel(coordinates: Sequence[jax.Array], sizes: Sequence[int]) -> jax.Array:
    index = coordinates[0]
    for coordinate, size in zip(coordinates[1:], sizes[1:], strict=True):
        index = index * size + coordinate
    return index
