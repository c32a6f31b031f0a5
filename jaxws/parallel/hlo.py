"""Reads the text of a compiled program (HLO): what it runs, how often, and on which arrays.

A program is a set of computations. Those of loops, branches and calls run instruction by
instruction. That of a fusion is one kernel: its inner arrays are never in memory. A loop runs as
often as the text says, or once where it does not; each branch of a condition counts as taken.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

# The first line of a computation, and an instruction: name, type, opcode and the rest.
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][a-z0-9\-]*)\((.*)$")
# Dtype, sizes, order of the axes from the fastest on, and how they lie in memory.
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\](?:\{([\d,]*)(?::([^}]*))?\})?")
_CALLED = re.compile(
    r"\b(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_TILE = re.compile(r"T\((\d+),(\d+)\)")
_SPACE = re.compile(r"S\((\d+)\)")
_BITS = {"pred": 8, "c64": 64, "c128": 128}


class Array(NamedTuple):
    """An array of a program.

    Attributes:
      bytes: of its elements.
      padded: bytes that it takes in memory, where that comes in tiles.
      on_chip: whether it is in memory of the chip's own, not in HBM.
    """

    bytes: int
    padded: int
    on_chip: bool


class Instruction(NamedTuple):
    """A line of a program.

    Attributes:
      name: of its result.
      opcode: what it does.
      results: arrays of its result, several if that is a tuple.
      operands: names of what it works on.
      text: all that follows the opcode.
    """

    name: str
    opcode: str
    results: tuple[Array, ...]
    operands: tuple[str, ...]
    text: str

    @property
    def calls(self) -> list[tuple[str, int]]:
        """Computations that it runs, and how often."""
        trips = _TRIPS.search(self.text)
        listed = ",".join(_BRANCHES.findall(self.text)).split(",")
        branches = [name.strip().lstrip("%") for name in listed if name]
        times = int(trips[1]) if trips else 1
        return [(name, times) for name in (*_CALLED.findall(self.text), *branches)]


class Run(NamedTuple):
    """An instruction as it runs.

    Attributes:
      instruction: the line.
      times: how often it runs.
      fused: whether it is a part of a kernel, whose inner arrays are nowhere.
    """

    instruction: Instruction
    times: int
    fused: bool


class Program:
    """A compiled program.

    Example:
      >>> program = Program('''
      ... ENTRY %main (x: f32[8,16]) -> f32[8,16] {
      ...   %x = f32[8,16]{1,0:T(8,128)} parameter(0)
      ...   ROOT %y = f32[8,16]{1,0:T(8,128)S(1)} negate(%x)
      ... }''')
      >>> [(run.instruction.opcode, *run.instruction.results) for run in program.runs()]
      [('parameter', Array(bytes=512, padded=4096, on_chip=False)),
       ('negate', Array(bytes=512, padded=4096, on_chip=True))]
    """

    def __init__(self, text: str):
        """Reads a text, as ``compiled.as_text()`` gives it."""
        self._computations: dict[str, list[Instruction]] = {}
        self._entry = ""
        current: list[Instruction] = []
        for line in text.splitlines():
            if start := _COMPUTATION.match(line):
                current = self._computations[start[2]] = []
                self._entry = start[2] if start[1] else self._entry
            elif found := _INSTRUCTION.match(line):
                current.append(_instruction(*found.groups()))

    def runs(self) -> Iterator[Run]:
        """All instructions that run, those of fusions after them."""
        return self._runs(self._entry, 1, fused=False)

    def arrays(self) -> dict[str, tuple[Array, ...]]:
        """The results of all instructions, by name."""
        return {each.name: each.results for some in self._computations.values() for each in some}

    def _runs(self, name: str, times: int, *, fused: bool) -> Iterator[Run]:
        for instruction in self._computations.get(name, ()):
            yield Run(instruction, times, fused)
            inside = fused or instruction.opcode not in ("while", "conditional", "call")
            for called, count in instruction.calls:
                yield from self._runs(called, times * count, fused=inside)


def _instruction(name: str, shape: str, opcode: str, text: str) -> Instruction:
    arguments = text.partition("), ")[0]
    operands = tuple(re.findall(r"%([\w.\-]+)", arguments))
    arrays = (_array(*found) for found in _ARRAY.findall(shape))
    return Instruction(name, opcode, tuple(arrays), operands, text)


def _array(dtype: str, shape: str, order: str, layout: str) -> Array:
    sizes = [int(size) for size in shape.split(",") if size]
    digits = re.search(r"\d+", dtype)
    bits = _BITS.get(dtype) or (int(digits[0]) if digits else 0)
    padded = list(sizes)
    if (tile := _TILE.search(layout)) and len(sizes) > 1:
        fastest, next_axis = [int(axis) for axis in order.split(",")[:2]]
        padded[fastest] = -(-sizes[fastest] // int(tile[2])) * int(tile[2])
        padded[next_axis] = -(-sizes[next_axis] // int(tile[1])) * int(tile[1])
    space = _SPACE.search(layout)
    on_chip = space is not None and space[1] != "0"
    return Array(math.prod(sizes) * bits // 8, math.prod(padded) * bits // 8, on_chip)
