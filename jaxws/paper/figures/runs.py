"""Results by row: what is done and can be drawn, and what lacks."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jaxws.paper.figures.canvas import mark_of
from jaxws.paper.labels import row_label
from jaxws.paper.names import RunName
from jaxws.paper.results import Result
from jaxws.paper.scales import Scale
from jaxws.paper.state import DONE, MISSING
from jaxws.paper.tables import RUNS, Published, find_published


class RowRuns(NamedTuple):
    """The runs of a row.

    Attributes:
      name: of the row.
      label: what it is called in the figure.
      done: runs that count, by seed.
      others: runs that are there and do not count yet, by seed.
      expected: how many there should be.
      published: the paper's row, where its numbers may be compared; else None.
    """

    name: RunName
    label: str
    done: tuple[Result, ...]
    others: tuple[Result, ...]
    expected: int
    published: Published | None

    @property
    def accuracies(self) -> list[float]:
        """Test top-1 after the last epoch, %, by seed."""
        return [100 * result.metrics["test_top1"] for result in self.done]

    @property
    def mean(self) -> float:
        """Of the accuracies; NaN if there are none."""
        return math.fsum(self.accuracies) / len(self.done) if self.done else math.nan

    @property
    def lacking(self) -> str:
        """How many runs of how many there are, and what is known of the others."""
        named = {DONE: "without accuracy"}
        there = [result.state for result in self.others if result.state != MISSING]
        states = Counter(named.get(state, state) for state in there)
        known = "".join(f", {count} {state}" for state, count in states.items())
        runs = "run" if self.expected == 1 else "runs"
        return f"{self.label} ({len(self.done)} of {self.expected} {runs}{known})"


class Runs:
    """The results of a scale.

    Args:
      results: of any scale; those of others are left aside.
      scale: what rows there are.
    """

    def __init__(self, results: Iterable[Result], scale: Scale) -> None:
        self.scale = scale
        self._by_row: dict[RunName, dict[int, Result]] = defaultdict(dict)
        for result in results:
            if result.name.scale == scale.name:
                self._by_row[result.name.of_row()][result.name.seed or 0] = result

    def row(self, experiment: str, dataset: str, row: str, label: str = "") -> RowRuns:
        """The runs of a row.

        Args:
          experiment: such as ``'table5'``.
          dataset: such as ``'cifar10'``.
          row: such as ``'lc-ws1'``.
          label: what the figure calls it; by default as the paper's tables do.

        Returns:
          The runs, which may be none.
        """
        name = RunName(self.scale.name, experiment, dataset, row)
        found = [result for _, result in sorted(self._by_row.get(name, {}).items())]
        done = tuple(filter(_counts, found))
        others = tuple(result for result in found if not _counts(result))
        usual = min(self.scale.seeds, RUNS.get(experiment, self.scale.seeds))
        published = find_published(experiment, dataset, row) if self.scale.is_paper else None
        return RowRuns(
            name, label or row_label(row), done, others, max(usual, len(found)), published
        )


def _counts(result: Result) -> bool:
    value = result.metrics.get("test_top1")
    return result.state == DONE and value is not None and math.isfinite(value)


def describe(rows: Sequence[RowRuns]) -> str:
    """The numbers of a figure in words.

    Args:
      rows: that it shows.

    Returns:
      A sentence with the mean accuracy of each row.

    Example:
      >>> describe([])
      'Mean test top-1 accuracy in percent: none.'
    """
    texts = [f"{row.label} {row.mean:.1f}" for row in rows if row.done]
    return f"Mean test top-1 accuracy in percent: {', '.join(texts) or 'none'}."


def caption_of(scale: Scale, text: str, rows: Sequence[RowRuns]) -> str:
    """A caption: how to read the figure, what lacks, and what its numbers are not.

    Args:
      scale: of the results.
      text: how to read it; whole sentences.
      rows: that it shows, or should.

    Returns:
      Plain text.

    Example:
      >>> from jaxws.paper.scales import SCALES
      >>> caption_of(SCALES["paper"], "Dots are runs.", [])
      'Dots are runs.'
    """
    parts = [text]
    if lacking := [row.lacking for row in rows if len(row.done) < row.expected]:
        parts.append(f"Lacking: {', '.join(lacking)}.")
    changed = sorted({field for row in rows for run in row.done for field in run.changes})
    if changed:
        parts.append(f"Some runs differ from their rows in {', '.join(changed)}.")
    return " ".join(filter(None, [*parts, mark_of(scale)]))
