"""How much a compiled program moves to and from the memory of a device.

XLA's own count ("bytes accessed") is of no use for TPUs with large on-chip memory: it counts what
stays there, and a copy of a part into it as if the whole array were read, twice. Here each kernel
counts what it reads and writes of HBM, with the padding of tiles, and a copy what it copies. It is
still an upper bound: kernels that read a part of an array count all of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from jaxws.parallel.hlo import Array, Instruction, Program

# They name arrays, or wait for what an instruction before them has begun.
_FREE = (
    *("parameter", "constant", "iota", "partition-id", "replica-id", "after-all"),
    *("tuple", "get-tuple-element", "bitcast", "opt-barrier", "while", "conditional", "call"),
)
# They read as much as they write, whatever the size of what they are given.
_PARTS = ("slice", "dynamic-slice", "gather", "broadcast", "pad")


def hbm_bytes(program: Program) -> int:
    """Bytes that a program reads from HBM and writes to it, at most.

    Args:
      program: compiled.

    Returns:
      The bytes, with the padding of tiles.

    Example:
      >>> hbm_bytes(Program('''
      ... ENTRY %main (x: f32[8,16]) -> f32[8,16] {
      ...   %x = f32[8,16]{1,0:T(8,128)} parameter(0)
      ...   %y = f32[8,16]{1,0:T(8,128)S(1)} negate(%x)
      ...   ROOT %z = f32[8,16]{1,0:T(8,128)} add(%y, %x)
      ... }''')) == 3 * 8 * 128 * 4
      True
    """
    arrays = program.arrays()
    return sum(
        times * _moved(instruction, arrays)
        for instruction, times, fused in program.runs()
        if not fused
    )


def _moved(instruction: Instruction, arrays: Mapping[str, tuple[Array, ...]]) -> int:
    opcode, results = instruction.opcode, instruction.results
    if opcode in _FREE or opcode.endswith("-done"):
        return 0
    read = [array for name in instruction.operands for array in arrays.get(name, ())]
    if opcode in ("copy-start", "slice-start"):
        # The result names source and copy, in either order.
        copy = results[1] if results[0] in read else results[0]
        return copy.padded * sum(not array.on_chip for array in (*read, copy))
    if opcode in _PARTS:
        read = [_smaller(array, results) for array in read]
    if opcode == "dynamic-update-slice":
        return 2 * sum(array.padded for array in read[1:2] if not array.on_chip)  # in place
    return sum(array.padded for array in (*read, *results) if not array.on_chip)


def _smaller(array: Array, results: tuple[Array, ...]) -> Array:
    return min(array, results[0]._replace(on_chip=array.on_chip), key=lambda a: a.padded)
