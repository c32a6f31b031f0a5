"""A score over the seeds of a row, wherever it is listed, shown or judged."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import NamedTuple


class Stats(NamedTuple):
    """An accuracy over the seeds of a row.

    Attributes:
      values: of each seed, in %.
    """

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Their mean, %."""
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float:
        """Largest minus smallest, as in Tables 7 to 9, %; 0 of one."""
        return max(self.values) - min(self.values)


def stats_of(values: Iterable[float | None]) -> Stats | None:
    """What several runs have come to together.

    Args:
      values: scores in %; None where a run has none.

    Returns:
      Those that there are; None where no run has a score.

    Example:
      >>> found = stats_of([50.0, 25.0, None])
      >>> found.mean, found.spread, found.n
      (37.5, 25.0, 2)
    """
    known = tuple(value for value in values if value is not None)
    return Stats(known) if known else None
