"""How much of a layer one program of a GPU kernel computes: block sizes, from shapes alone.

Each of the three kernels is a batch of matrix products of (rows, inner) and (inner, columns). A
block of the result stays in registers while blocks of both factors stream through shared memory.
"""

from __future__ import annotations

from typing import NamedTuple

# The smallest block that tensor cores multiply in every dtype.
SMALLEST = 16
# float32 sums of one program, which are 64 registers of each of its 256 threads of 255 at most.
SUMS = 16384
# Shared memory for the blocks in flight. The smallest multiprocessors since Ampere (8.6, 8.9, 12.0)
# give 99 KiB to a program.
SHARED_BYTES = 64 * 1024
STAGES = 3


class Tile(NamedTuple):
    """Block sizes, powers of two as Triton demands.

    Attributes:
      rows: of the block of the result.
      columns: of the block of the result.
      inner: how many terms of each sum are multiplied at once.
    """

    rows: int
    columns: int
    inner: int

    @property
    def warps(self) -> int:
        """Groups of 32 threads: four, or eight for the largest blocks."""
        return 8 if self.rows * self.columns > SUMS // 2 else 4


def make_tile(rows: int, columns: int, inner: int, itemsize: int) -> Tile:
    """Block sizes for a product of (rows, inner) and (inner, columns).

    Columns get what rows leave of the registers, and the inner axis what both leave of the shared
    memory.

    Args:
      rows: size of the axis that blocks of rows cut.
      columns: likewise.
      inner: likewise.
      itemsize: bytes per number, of the wider of the two factors.

    Returns:
      A :class:`Tile`.

    Example:
      >>> make_tile(32, 512, 64, itemsize=2)
      Tile(rows=32, columns=256, inner=32)
    """
    row_block = snug_block(rows, 128)
    sums = SUMS // max(1, itemsize // 4)  # of float64 a program keeps half as many
    terms = SHARED_BYTES // (STAGES * itemsize)  # numbers per stage
    columns_that_fit = min(256, sums // row_block, terms // SMALLEST - row_block)
    column_block = snug_block(columns, _power_of_two(columns_that_fit))
    most_inner = min(64, _power_of_two(terms // (row_block + column_block)))
    return Tile(row_block, column_block, inner_block(inner, most_inner))


def snug_block(size: int, most: int) -> int:
    """The largest block up to ``most`` that fills up an axis with little more than the smallest.

    Args:
      size: of the axis.
      most: a power of two, 16 at least.

    Returns:
      A power of two from 16 to ``most``; blocks of it cover at most a quarter more than blocks of
      16 would.

    Example:
      >>> snug_block(144, 128), snug_block(288, 128), snug_block(3, 128)
      (32, 64, 16)
    """
    least, block = -(-size // SMALLEST) * SMALLEST, most
    while block > SMALLEST and 4 * (-(-size // block) * block) > 5 * least:
        block //= 2
    return block


def inner_block(size: int, most: int) -> int:
    """The largest block up to ``most`` that divides an axis, or failing that fits it snugly.

    Example:
      >>> inner_block(96, 64), inner_block(147, 64)
      (32, 64)
    """
    divisor = min(size & -size, most)
    return divisor if divisor >= SMALLEST else snug_block(size, most)


def _power_of_two(most: int) -> int:
    return 1 << (most.bit_length() - 1)
