"""The result of a run, wherever it comes from: its directory, or tables that somebody published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from jaxws.paper.names import RunName, all_rows

# Where a run was made, in the order of the columns of published results.
FACTS = ("device", "cores", "dtype", "jaxws", "commit", "python", "jax", "jaxlib", "flax", "date")


class Result(NamedTuple):
    """What came out of a run.

    Attributes:
      name: of the run, with its seed.
      state: one of :mod:`jaxws.paper.state`; accuracies count only where it is ``'done'``.
      note: why it is not, in a few words; else empty.
      metrics: of the last record of an epoch, by their names in metrics.jsonl, such as
        ``'test_top1'`` (a part of 1).
      steps: number of steps done.
      seconds: wall time of all sessions together.
      changes: fields in which the run differs from its row, such as searched rates or a dtype.
      facts: where and with what it was made, by the names in ``FACTS``; texts.
      epochs: records of kind ``epoch``, oldest first.
      snr: of runs whose weights are shared: pairs of step and -log SNR by layer, before sharing.
      source: the directory or file that it comes from.
    """

    name: RunName
    state: str
    note: str
    metrics: Mapping[str, float]
    steps: int
    seconds: float
    changes: Mapping[str, Any]
    facts: Mapping[str, str]
    epochs: Sequence[Mapping[str, Any]]
    snr: Sequence[tuple[int, Mapping[str, float]]]
    source: str


def sort_key(name: RunName) -> tuple[int, int]:
    """By what results are sorted: the order of the paper, then seeds.

    Args:
      name: of a run.

    Returns:
      The key.

    Example:
      >>> from jaxws.paper.names import parse_name
      >>> sort_key(parse_name("table4/cifar10/lc/seed3"))
      (1, 3)
    """
    return _positions()[name.of_row()], name.seed or 0


@cache
def _positions() -> dict[RunName, int]:
    return {name: position for position, name in enumerate(all_rows())}
