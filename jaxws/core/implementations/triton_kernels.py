r"""The three GPU kernels of the locally connected layer, in the language of Pallas.

All arrays are matrices here. The image x has a row of n numbers per pixel and channel, y and dy one
per position and feature, and the weights a row of f numbers per position p, offset o and channel c;
offset and channel together are k = (o, c). With row(p, k) the row of x that weight k of position p
sees, the forward pass is one product of a (f, k) and a (k, n) matrix per position::

    y[p, f, n] = sum_k kernel[p, k, f] * x[row(p, k), n]

and the kernel's gradient one of a (k, n) and an (n, f) matrix. The patches x[row(p, k), n] are not
written to memory: a program loads blocks of them straight from the image, rows of n contiguous
numbers. A row outside the image counts as zeros: neither it nor the weights it would meet are read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from jaxws.core.implementations.triton_geometry import (
    Layer,
    Mask,
    block_entries,
    both,
    candidates,
    divide,
    filter_of,
    group_entries,
    meeting,
    patch,
)
from jaxws.core.implementations.triton_tiles import Tile

Ref: TypeAlias = Any  # Pallas has no public name for its references
Add: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]


def forward_kernel(x_ref: Ref, kernel_ref: Ref, y_ref: Ref, *, layer: Layer, tile: Tile) -> None:
    """Program (block of n, block of f, position): a block of y, (f, n)."""
    position, features = pl.program_id(2), layer.spec.groups * layer.features
    n, n_exists = block_entries(pl.program_id(0), tile.columns, layer.batch)
    group, f, f_exists = group_entries(pl.program_id(1), tile.rows, layer.features)
    first = filter_of(layer, position) * layer.terms

    def add(step: jax.Array, total: jax.Array) -> jax.Array:
        k, _, row, seen = patch(layer, position, group, step, tile.inner)
        filters = _load(kernel_ref, first + k, f, seen, f_exists)
        pixels = _load(x_ref, row, n, seen, n_exists)
        return total + _dot(layer, filters, pixels, 0, 0)

    y = _sum(layer, tile, pl.cdiv(layer.terms, tile.inner), add)
    _store(y_ref, position * features + f, n, y, f_exists, n_exists)


def kernel_gradient_kernel(
    x_ref: Ref, dy_ref: Ref, dk_ref: Ref, *, layer: Layer, tile: Tile
) -> None:
    """Program (block of f, block of k, position): a block of the kernel's gradient, (k, f)."""
    position, features = pl.program_id(2), layer.spec.groups * layer.features
    group, f, f_exists = group_entries(pl.program_id(0), tile.columns, layer.features)
    k, k_exists, row, seen = patch(layer, position, group, pl.program_id(1), tile.rows)

    def add(step: jax.Array, total: jax.Array) -> jax.Array:
        n, n_exists = block_entries(step, tile.inner, layer.batch)
        pixels = _load(x_ref, row, n, seen, n_exists)
        dy = _load(dy_ref, position * features + f, n, f_exists, n_exists)
        return total + _dot(layer, pixels, dy, 1, 1)

    dk = _sum(layer, tile, pl.cdiv(layer.batch, tile.inner), add)
    _store(dk_ref, position * layer.terms + k, f, dk, k_exists, f_exists)


def input_gradient_kernel(
    dy_ref: Ref, kernel_ref: Ref, dx_ref: Ref, *, layer: Layer, tile: Tile
) -> None:
    """Program (block of n, block of c, pixel): a block of the image's gradient, (c, n)."""
    pixel, groups = pl.program_id(2), layer.spec.groups
    n, n_exists = block_entries(pl.program_id(0), tile.columns, layer.batch)
    group, c, c_exists = group_entries(pl.program_id(1), tile.rows, layer.channels)
    feature_blocks = pl.cdiv(layer.features, tile.inner)

    def add(step: jax.Array, total: jax.Array) -> jax.Array:
        candidate, feature_block = divide(step, feature_blocks)
        position, offset, meets = meeting(layer, pixel, candidate)
        f, f_exists = block_entries(feature_block, tile.inner, layer.features)
        f, f_exists = group * layer.features + f, both(f_exists, jnp.full(f.shape, meets))
        k = (offset - group) * layer.channels + c  # c counts the channels of all groups
        first = filter_of(layer, position) * layer.terms
        filters = _load(kernel_ref, first + k, f, c_exists, f_exists)
        dy = _load(dy_ref, position * groups * layer.features + f, n, f_exists, n_exists)
        return total + _dot(layer, filters, dy, 1, 0)

    dx = _sum(layer, tile, math.prod(candidates(layer)) * feature_blocks, add)
    _store(dx_ref, pixel * groups * layer.channels + c, n, dx, c_exists, n_exists)


def _sum(layer: Layer, tile: Tile, steps: int, add: Add) -> jax.Array:
    zeros = jnp.zeros((tile.rows, tile.columns), layer.spec.accumulate)
    total: jax.Array = lax.fori_loop(np.int32(0), np.int32(steps), add, zeros)
    return total


def _dot(layer: Layer, a: jax.Array, b: jax.Array, a_axis: int, b_axis: int) -> jax.Array:
    """Sums over these axes; precision means what it means in XLA, which uses TF32 by default."""
    return lax.dot_general(
        a.astype(layer.dtype),
        b.astype(layer.dtype),
        (((a_axis,), (b_axis,)), ((), ())),
        precision=layer.spec.precision,
        preferred_element_type=layer.spec.accumulate,
    )


def _load(
    ref: Ref, rows: jax.Array, columns: jax.Array, row_exists: Mask, column_exists: Mask
) -> jax.Array:
    mask = _outer(row_exists, column_exists, rows.size, columns.size)
    where = ref.at[rows[:, None], columns[None, :]]
    return plgpu.load(where) if mask is None else plgpu.load(where, mask=mask, other=0)


def _store(
    ref: Ref,
    rows: jax.Array,
    columns: jax.Array,
    values: jax.Array,
    row_exists: Mask,
    column_exists: Mask,
) -> None:
    mask = _outer(row_exists, column_exists, rows.size, columns.size)
    plgpu.store(ref.at[rows[:, None], columns[None, :]], values.astype(ref.dtype), mask=mask)


def _outer(rows: Mask, columns: Mask, *shape: int) -> Mask:
    """The mask of a block out of those of its axes."""
    if rows is not None:
        rows = jnp.broadcast_to(rows[:, None], shape)
    if columns is not None:
        columns = jnp.broadcast_to(columns[None, :], shape)
    return both(rows, columns)
