"""The results of a benchmark of steps: a table for the terminal, JSON that survives a Ctrl-C."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.problem import Problem

Record = dict[str, Any]

_QUANTITIES = {"time": "time_ratio", "cpu": "cpu_ratio", "memory": "memory_ratio"}


class Report:
    """Groups of peers, each at a batch of its own, in a file that is complete after each round.

    Args:
      out: where to write them, or None.
      benchmark: its name.
      reference: name of the peer that ratios are to.
      problem: what is measured, apart from the batch.
    """

    def __init__(self, out: Path | None, benchmark: str, reference: str, problem: Problem):
        self._out, self._reference, self._groups = out, reference, list[Record]()
        facts = problem._asdict()
        del facts["batch"]
        about = {"benchmark": benchmark, "reference": reference, **machine.metadata()}
        self._about = about | {"problem": facts}

    def add(self, group: Record) -> None:
        """Adds a group that has been measured to its end."""
        self._groups.append(group)

    def keep_unfinished(self, group: Record) -> None:
        """Writes what there is, with a group that has rounds to come."""
        self._write([*self._groups, group], complete=False)

    def end(self) -> None:
        """Writes all groups, as the result of the whole benchmark."""
        self._write(self._groups, complete=True)

    @property
    def has_errors(self) -> bool:
        """Whether a peer has failed."""
        return any("error" in peer for group in self._groups for peer in group["peers"].values())

    @property
    def place(self) -> str:
        """Where the samples so far are, in words."""
        if self._out is None:
            return "nothing is kept without --out"
        return f"{self._out} has all rounds that were over" if self._out.exists() else "no samples"

    def _write(self, groups: Sequence[Record], complete: bool) -> None:
        if self._out is None:
            return
        ratios = flat_ratios(groups, self._reference)
        content = self._about | {"complete": complete, "groups": groups, "ratios": ratios}
        machine.write_report(self._out, content)


def flat_ratios(groups: Sequence[Record], reference: str) -> dict[str, dict[str, float]]:
    """Ratios of all groups by "batch/peer", which is what :mod:`benchmarks.check` compares."""
    return {
        f"batch {group['batch']}/{name}": {
            quantity: record[key] for quantity, key in _QUANTITIES.items() if key in record
        }
        for group in groups
        for name, record in group["peers"].items()
        if name != reference and "time_ratio" in record
    }


def table(group: Record) -> str:
    """The group as a table for the terminal."""
    lines = [
        f"batch {group['batch']}, {group['rounds']} rounds",
        f"{'peer':20} {'step (s)':>9} {'/ ours':>7} {'rounds':>7} {'CPU (s)':>9} {'/ ours':>7}"
        f" {'peak (GB)':>9} {'/ ours':>7}"
        f" {'flops':>6} {'bytes':>6}",
    ]
    for name, record in group["peers"].items():
        if "error" in record:
            lines.append(f"{name:20} {record['error']}")
            continue
        columns = [
            f"{record['median_seconds']:9.3f}",
            f"{record.get('time_ratio', float('nan')):7.2f}",
            f"{record.get('median_of_round_ratios', float('nan')):7.2f}",
            f"{record['median_cpu_seconds']:9.3f}",
            f"{record.get('cpu_ratio', float('nan')):7.2f}",
            f"{record.get('peak_bytes', float('nan')) / 1e9:9.2f}",
            f"{record.get('memory_ratio', float('nan')):7.2f}",
        ]
        if "share_of_flops_rate" in record:
            shares = (record["share_of_flops_rate"], record["share_of_bytes_rate"])
            columns += [f"{100 * share:5.1f}%" for share in shares]
        lines.append(f"{name:20} {' '.join(columns)}")
    for dtype, floor in group.get("floor", {}).items():
        rates = floor["rates"]
        lines.append(
            f"floor, {dtype}: {floor['flops_seconds']:.3f} s at {rates['flops'] / 1e9:.4g} GFLOP/s,"
            f" {floor['bytes_seconds']:.3f} s at {rates['bytes'] / 1e9:.4g} GB/s"
        )
    return "\n".join(lines)
