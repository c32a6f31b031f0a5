"""What a compiled program sends between devices.

Compilers merge and split what a program asks for, and choose dtypes, so only the compiled text says
what is sent. On TPUs, a collective that runs while something else is computed is in the text again
in each kernel that it overlaps with; it is counted once.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from jaxws.parallel.hlo import Instruction, Program

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

_MESH_GROUPS = re.compile(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}")
_ITERATED_GROUPS = re.compile(r"replica_groups=\[(\d+),(\d+)\]")
_LISTED_GROUPS = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_SAME = re.compile(r'channel_id=\d+|op_name="[^"]*"')


class Sent(NamedTuple):
    """What the collectives of one kind send in a run of a program.

    Attributes:
      calls: number of collectives.
      payload: bytes of the arrays that they work on: whole ones, where devices hold parts.
      wire: bytes that each device sends, if they go around a ring.
    """

    calls: int = 0
    payload: int = 0
    wire: float = 0.0

    def plus(self, other: Sent, times: int) -> Sent:
        """The sum of this and of another one, so many times."""
        return Sent(
            self.calls + times * other.calls,
            self.payload + times * other.payload,
            self.wire + times * other.wire,
        )


def collectives(program: Program, devices: int) -> dict[str, Sent]:
    """Adds up the collectives of a compiled program.

    Args:
      program: what is run.
      devices: that it is compiled for.

    Returns:
      What is sent, by kind; kinds that there are none of are left out.

    Example:
      >>> collectives(Program('''
      ... ENTRY %main (x: f32[8,16]) -> f32[8,16] {
      ...   ROOT %sum = f32[8,16] all-reduce(%x), replica_groups={{0,1},{2,3}}, to_apply=%add
      ... }'''), devices=4)
      {'all-reduce': Sent(calls=1, payload=512, wire=512.0)}
    """
    found: dict[str, Sent] = {}
    seen: set[tuple[object, ...]] = set()
    for instruction, times, fused in program.runs():
        kind = instruction.opcode.removesuffix("-start")
        if kind not in KINDS:
            continue
        same = (kind, instruction.results, *_SAME.findall(instruction.text))
        if fused and same in seen:
            continue
        seen.add(same)
        found[kind] = found.get(kind, Sent()).plus(_sent(kind, instruction, devices), times)
    return {kind: found[kind] for kind in KINDS if kind in found}


def wire_bytes(sent: dict[str, Sent]) -> float:
    """Bytes that each device sends, of all kinds.

    Args:
      sent: of :func:`collectives`.

    Returns:
      Their sum.

    Example:
      >>> wire_bytes({"all-to-all": Sent(1, 8, 7.0), "all-reduce": Sent(1, 8, 14.0)})
      21.0
    """
    return sum(one.wire for one in sent.values())


def _sent(kind: str, instruction: Instruction, devices: int) -> Sent:
    results, given = instruction.results, len(instruction.operands)
    if instruction.opcode != kind and len(results) > given:
        results = results[given : 2 * given]  # what is put in comes first, and more may follow
    size = sum(array.bytes for array in results)
    group = _group(instruction.text, devices)
    moved = (group - 1) / group
    if kind == "reduce-scatter":
        size *= group  # the result is a part
    if kind == "all-reduce":
        moved *= 2
    return Sent(1, size, float(size) if kind == "collective-permute" else moved * size)


def _group(text: str, devices: int) -> int:
    """Number of devices that take part in a collective together."""
    if mesh := _MESH_GROUPS.search(text):
        sizes = dict(re.findall(r"'([^']*)'=(\d+)", mesh[1]))
        return math.prod(int(sizes[name]) for name in re.findall(r"'([^']*)'", mesh[2]))
    if iterated := _ITERATED_GROUPS.search(text):
        return int(iterated[2])
    if listed := _LISTED_GROUPS.search(text):
        return len(listed[1].split(","))
    return devices
