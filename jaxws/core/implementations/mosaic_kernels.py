"""The bodies of the three Mosaic kernels: what one grid step does with its blocks in VMEM.

They differ in what the ring holds (see :mod:`jaxws.core.implementations.mosaic_plan`) and in the
matrix product at each position, with K = i * j * c weights per feature::

    forward            y (f, n)       = kernel (f, K) @ patch (K, n)
    kernel gradient    dkernel (f, K) = dy (f, n) @ patch (K, n)^T
    input gradient     dpatch (K, n)  = kernel (f, K)^T @ dy (f, n)

A patch is put together from i * j pieces (c, n) of the ring, and taken apart into them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from jaxws.core.implementations.mosaic_plan import Plan

Ref = Any
Precision = lax.Precision | None


def forward_body(plan: Plan, precision: Precision) -> Callable[..., None]:
    """Body of the forward kernel.

    Args:
      plan: the walk over the layer.
      precision: of the matrix products.

    Returns:
      A function of references to image rows (stride, W, c, n), weights (columns, f, K), or all of
      them (p, q, f, K) if they repeat, outputs (columns, f, n) and the ring (slots, width, c, n).
    """

    def body(x_ref: Ref, kernel_ref: Ref, y_ref: Ref, ring: Ref) -> None:
        row = _read_rows(plan, x_ref, ring)

        def position(column: jax.Array, w: jax.Array) -> None:
            filters = _filters(plan, kernel_ref, row, column, w)
            y = _matmul(filters, _patch(plan, ring, row, w), (1, 0), precision)
            y_ref[column] = y.astype(y_ref.dtype)

        _each_position(plan, row, position)

    return body


def kernel_gradient_body(plan: Plan, precision: Precision) -> Callable[..., None]:
    """Body of the kernel-gradient kernel.

    Args:
      plan: the walk over the layer.
      precision: of the matrix products.

    Returns:
      A function of references to image rows (stride, W, c, n), output cotangents (columns, f, n),
      the gradient (columns, f, K) and the ring (slots, width, c, n).
    """

    def body(x_ref: Ref, dy_ref: Ref, gradient_ref: Ref, ring: Ref) -> None:
        row = _read_rows(plan, x_ref, ring)

        def position(column: jax.Array, w: jax.Array) -> None:
            gradient = _matmul(dy_ref[column], _patch(plan, ring, row, w), (1, 1), precision)
            gradient_ref[column] = gradient.astype(gradient_ref.dtype)

        _each_position(plan, row, position)

    return body


def input_gradient_body(plan: Plan, precision: Precision) -> Callable[..., None]:
    """Body of the input-gradient kernel.

    Args:
      plan: the walk over the layer.
      precision: of the matrix products.

    Returns:
      A function of references to output cotangents (columns, f, n), weights (columns, f, K) or
      (p, q, f, K) as for the forward kernel, rows of the image's gradient (stride, W, c, n) and the
      ring (slots, width, c, n), in float32.
    """
    stride, (low, _) = plan.window.strides[0], plan.window.padding[1]
    # Image row r has slot (r + lag * stride) % slots: so output row o starts below slot o * stride.
    shift = plan.lag * stride - plan.window.padding[0][0]

    def body(dy_ref: Ref, kernel_ref: Ref, dx_ref: Ref, ring: Ref) -> None:
        step, channels = pl.program_id(1), ring.shape[2]
        _clear_first(ring)

        def position(column: jax.Array, w: jax.Array) -> None:
            filters = _filters(plan, kernel_ref, step, column, w)
            dpatch = _matmul(filters, dy_ref[column], (0, 0), precision)
            for n, (slot, pixel) in enumerate(_pixels(plan, step * stride + shift, w)):
                ring[slot, pixel] += dpatch[n * channels : (n + 1) * channels]

        _each_position(plan, step, position)

        @pl.when(pl.program_id(2) == plan.column_blocks - 1)
        def _write_finished_rows() -> None:
            for row in range(stride):
                slot = lax.rem(step * stride, plan.slots) + row
                finished = ring[slot, pl.ds(low, plan.window.input_size[1])]
                dx_ref[row] = finished.astype(dx_ref.dtype)
                ring[slot] = jnp.zeros(ring.shape[1:], ring.dtype)

    return body


def _filters(
    plan: Plan, kernel_ref: Ref, row: jax.Array, column: jax.Array, w: jax.Array
) -> jax.Array:
    """The filters (f, K) of output position (row, w), the column-th of the block."""
    if plan.filters is None:
        filters: jax.Array = kernel_ref[column]
    else:
        rows, columns = plan.filters
        filters = kernel_ref[lax.rem(row, rows), lax.rem(w, columns)]
    return filters


def _clear_first(ring: Ref) -> None:
    @pl.when((pl.program_id(1) == 0) & (pl.program_id(2) == 0))
    def _clear() -> None:
        ring[...] = jnp.zeros(ring.shape, ring.dtype)


def _read_rows(plan: Plan, x_ref: Ref, ring: Ref) -> jax.Array:
    """Puts the step's image rows into the ring, zeros below the image; the sides stay zero.

    Returns:
      The row of outputs that can be computed now, negative in the first steps.
    """
    _clear_first(ring)
    step, stride, (low, _) = pl.program_id(1), plan.window.strides[0], plan.window.padding[1]
    height, width = plan.window.input_size
    for row in range(stride):
        slot = lax.rem(step * stride, plan.slots) + row
        first_block, inside = pl.program_id(2) == 0, step * stride + row < height

        @pl.when(first_block & inside)
        def _copy(row: int = row, slot: jax.Array = slot) -> None:
            ring[slot, pl.ds(low, width)] = x_ref[row]

        @pl.when(first_block & ~inside)
        def _pad(slot: jax.Array = slot) -> None:
            ring[slot] = jnp.zeros(ring.shape[1:], ring.dtype)

    return step - plan.lag


def _patch(plan: Plan, ring: Ref, row: jax.Array, w: jax.Array) -> jax.Array:
    """The patch (K, n) that output position (row, w) sees."""
    # A multiple of the ring's size keeps what is to be divided by it from being negative.
    low = plan.window.padding[0][0]
    above = -(-low // plan.slots) * plan.slots - low
    top = row * plan.window.strides[0] + above
    pieces = [ring[slot, pixel] for slot, pixel in _pixels(plan, top, w)]
    return jnp.concatenate(pieces, axis=0) if len(pieces) > 1 else pieces[0]


def _pixels(plan: Plan, top: jax.Array, w: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """Slot and column in the ring of every kernel offset, given the row of the first one."""
    (kernel_rows, kernel_columns), window = plan.window.kernel_size, plan.window
    slots = [lax.rem(top + i * window.dilation[0], plan.slots) for i in range(kernel_rows)]
    columns = [w * window.strides[1] + j * window.dilation[1] for j in range(kernel_columns)]
    return list(itertools.product(slots, columns))


def _each_position(
    plan: Plan, row: jax.Array, function: Callable[[jax.Array, jax.Array], None]
) -> None:
    """Calls ``function(column in the block, output column)`` if there is such an output row."""
    first = pl.program_id(2) * plan.columns
    rows, columns = plan.window.output_size

    @pl.when((row >= 0) & (row < rows))
    def _run() -> None:
        stop = jnp.minimum(plan.columns, columns - first)
        lax.fori_loop(0, stop, lambda column, _: function(column, first + column), None)


def _matmul(
    a: jax.Array, b: jax.Array, contract: tuple[int, int], precision: Precision
) -> jax.Array:
    """Contracts one axis of each matrix; sums are float32."""
    dtype = max(a.dtype, b.dtype, key=lambda dtype: dtype.itemsize)
    return lax.dot_general(
        a.astype(dtype),
        b.astype(dtype),
        (((contract[0],), (contract[1],)), ((), ())),
        precision=precision,
        preferred_element_type=jnp.float32,
    )
