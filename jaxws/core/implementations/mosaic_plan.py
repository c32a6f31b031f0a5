"""How the Mosaic kernels walk over a layer: a rolling window of image rows in on-chip memory.

A grid step handles one row of output positions, from top to bottom. Output row o sees the image
rows ``o * stride - low + i * dilation``; neighbouring rows share most of them. So rows live in a
*ring* in VMEM, row r in slot ``r % slots``: each enters it once and leaves it when no output row is
going to need it. For an image (forward, kernel gradient) steps read ``stride`` new rows before they
compute; for the gradient of an image steps add to the ring, then write ``stride`` finished rows.

Weights come in row by row, ``columns`` positions at a time, and the batch in blocks of ``lanes``.
Filters that repeat over the positions all come in at the beginning, and stay.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from jaxws.core.window import Window

# VMEM is 64 MiB at least from TPU v5 on; Mosaic needs part of it for itself.
VMEM_LIMIT = 48 * 2**20
_VMEM_FOR_BLOCKS = 36 * 2**20
_KERNEL_BLOCK = 4 * 2**20
_MAX_LANES = 512


class Plan(NamedTuple):
    """The walk over one layer; all numbers are static.

    Attributes:
      window: the layer's geometry, with two spatial axes.
      gradient: whether the ring holds the gradient of the image rather than the image.
      width: columns of the ring, zero padding included.
      slots: rows of the ring, a multiple of the row stride.
      steps: number of grid steps, at least one per output row.
      lag: steps between the first one and that of the first output row (image in the ring), or of
        the first finished row of the image (its gradient in the ring).
      columns: output positions per block of weights.
      lanes: images per block.
      batch: images, a multiple of ``lanes``.
      vmem: bytes of VMEM that blocks, double-buffered, and scratch take.
      filters: number of filters per axis, which repeat over the positions; None if they do not.
    """

    window: Window
    gradient: bool
    width: int
    slots: int
    steps: int
    lag: int
    columns: int
    lanes: int
    batch: int
    vmem: int
    filters: tuple[int, int] | None = None

    @property
    def row_blocks(self) -> int:
        """Number of blocks of ``stride`` image rows."""
        return -(-self.window.input_size[0] // self.window.strides[0])

    @property
    def column_blocks(self) -> int:
        """Number of blocks of weights per row of output positions."""
        return -(-self.window.output_size[1] // self.columns)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Batch blocks, steps, blocks of columns; the last changes fastest."""
        return self.batch // self.lanes, self.steps, self.column_blocks


def make_plan(
    window: Window,
    channels: int,
    features: int,
    batch: int,
    dtype: np.dtype,
    *,
    gradient: bool,
    filters: tuple[int, int] | None = None,
) -> Plan | None:
    """Lays out the walk over a layer.

    Args:
      window: geometry with two spatial axes.
      channels: input channels c.
      features: output features f.
      batch: number of images n.
      dtype: of image and weights, float32 or bfloat16; sums are float32.
      gradient: whether the ring holds the gradient of the image rather than the image.
      filters: number of filters per axis, if they repeat over the positions.

    Returns:
      A plan with the largest blocks that fit into VMEM, or None if not even the smallest do.

    Example:
      >>> from jaxws.core.window import make_window
      >>> window = make_window((56, 56), (3, 3), 1, 1)
      >>> plan = make_plan(window, 32, 32, 256, np.dtype("float32"), gradient=False)
      >>> plan.grid, plan.slots, plan.lanes
      ((1, 57, 1), 3, 256)
    """
    if window.kernel_size == () or len(window.kernel_size) != 2 or not batch * channels * features:
        return None
    (rows, columns), (kernel_rows, kernel_columns) = window.output_size, window.kernel_size
    stride, (low, _) = window.strides[0], window.padding[0]
    row_span = (kernel_rows - 1) * window.dilation[0] + 1
    column_span = (kernel_columns - 1) * window.dilation[1] + 1
    width = max(
        window.padding[1][0] + window.input_size[1], (columns - 1) * window.strides[1] + column_span
    )
    row_blocks = -(-window.input_size[0] // stride)
    if gradient:
        # Output row o adds to rows o * stride - low + ..., which lie in block o - lag or later.
        lag = -(-low // stride)
        slots = max(stride, lag * stride - low + row_span)
        steps = lag + row_blocks
    else:
        # Output row o can be computed once block o + lag of image rows is there.
        lag = max(0, (row_span - 1 - low) // stride)
        slots = (lag + 1) * stride + low
        steps = lag + rows
    slots = -(-slots // stride) * stride

    weights = kernel_rows * kernel_columns * channels
    one_filter = _vmem_bytes((features, weights), dtype)
    block = max(1, min(columns, _KERNEL_BLOCK // one_filter))
    on_chip = math.prod(filters) if filters else block
    single = np.dtype(np.float32)
    ring_dtype = single if gradient else dtype

    def vmem(lanes: int) -> int:
        buffers = window.input_size[1] * stride * _vmem_bytes((channels, lanes), dtype)
        buffers += block * _vmem_bytes((features, lanes), single) + on_chip * one_filter
        scratch = slots * width * _vmem_bytes((channels, lanes), ring_dtype)
        # A patch with its products, and sums of one block of weights.
        scratch += 3 * _vmem_bytes((weights, lanes), single)
        scratch += block * _vmem_bytes((features, weights), single)
        return 2 * buffers + scratch

    for lanes in _lane_blocks(batch):
        if vmem(lanes) <= _VMEM_FOR_BLOCKS:
            padded = -(-batch // lanes) * lanes
            sizes = (width, slots, steps, lag, block, lanes, padded, vmem(lanes))
            return Plan(window, gradient, *sizes, filters)
    return None


def _lane_blocks(batch: int) -> list[int]:
    """Sizes of a batch block to try, best first: all images, or whole vectors of 128 lanes."""
    whole = [batch] if batch <= _MAX_LANES else []
    vectors = [n for n in range(_MAX_LANES, 0, -128) if n < batch]
    # Those that divide the batch need no padding.
    return whole + sorted(vectors, key=lambda n: (-batch % n, -n))


def hbm_bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Bytes of an array in a TPU's memory: its last two axes come in tiles of 8 x 128 elements.

    Args:
      shape: of the array, with two axes at least.
      dtype: of the array.

    Returns:
      The bytes of its tiles. Those of arrays with fewer than 8 rows have 4, 2 or 1.

    Example:
      >>> hbm_bytes((9, 30, 100), np.dtype("float32")) == 9 * 32 * 128 * 4
      True
      >>> hbm_bytes((9, 3, 100), np.dtype("bfloat16")) == 9 * 4 * 128 * 2
      True
    """
    *leading, sublanes, lanes = shape
    rows = min(8, 1 << max(0, sublanes - 1).bit_length())
    return (
        math.prod(leading) * -(-sublanes // rows) * rows * -(-lanes // 128) * 128 * dtype.itemsize
    )


def _vmem_bytes(shape: tuple[int, int], dtype: np.dtype) -> int:
    """Bytes of a matrix in VMEM, in tiles of 4 KiB, to be on the safe side."""
    rows = 8 * 4 // dtype.itemsize
    return -(-shape[0] // rows) * -(-shape[1] // 128) * 4096
