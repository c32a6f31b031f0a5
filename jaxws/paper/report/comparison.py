"""Ours beside the paper's: what each line of a table says, and by which verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jaxws.paper.names import RunName
from jaxws.paper.report.lines import METRICS, Line, Part, base_row, paper_line
from jaxws.paper.report.verdicts import (
    Agreement,
    Inequality,
    Stats,
    better,
    compare_with_paper,
    holds,
    order_of,
)
from jaxws.paper.scales import SCALES
from jaxws.paper.tables import RUNS


class Compared(NamedTuple):
    """An accuracy of a line beside others.

    Attributes:
      ours: of its seeds; None if none is done.
      diff: our mean minus that of conv, %; None where one is missing.
      paper: the paper's mean, %; None where it has none. Of smaller scales, for reference only.
      paper_spread: its max minus min, %.
      paper_diff: its difference to conv, %.
      agreement: with the paper; None for smaller scales, or where there is nothing to compare.
    """

    ours: Stats | None
    diff: float | None
    paper: float | None
    paper_spread: float | None
    paper_diff: float | None
    agreement: Agreement | None


class Judged(NamedTuple):
    """An inequality between two rows, and whether it holds for ours.

    Attributes:
      expected: what the paper has.
      lower: accuracies of the row that should be the worse one; None if it is missing.
      higher: of the other one.
      verdict: see :func:`jaxws.paper.report.verdicts.holds`; ``'missing'`` without both.
    """

    expected: Inequality
    lower: Stats | None
    higher: Stats | None
    verdict: str


def metrics_of(part: Part) -> list[str]:
    """The accuracies that a table has: top-5 where the paper has it.

    Args:
      part: of rows.

    Returns:
      ``['top1']``, or ``['top1', 'top5']``.
    """
    lines = [paper_line(row) for row in part.rows]
    return [m for m in METRICS if m == "top1" or any(x and x.top5 is not None for x in lines)]


def compare(line: Line, part: Part, metric: str = "top1") -> Compared:
    """Puts a line beside the paper's and beside conv.

    Args:
      line: of a table.
      part: that it is of.
      metric: ``'top1'`` or ``'top5'``.

    Returns:
      All numbers, and the verdict.
    """
    ours, published = line.stats(metric), paper_line(line.row)
    mean, spread, diff = (
        getattr(published, f"{metric}{suffix}", None) for suffix in ("", "_spread", "_diff")
    )
    agreement = None
    if ours and mean is not None and SCALES[line.row.scale].is_paper:
        agreement = compare_with_paper(ours, mean, spread, RUNS[line.row.experiment])
    base = part.find(base_row(line.row, part.rows))
    return Compared(ours, _difference(ours, base, metric), mean, spread, diff, agreement)


def _difference(ours: Stats | None, base: Line | None, metric: str) -> float | None:
    other = base.stats(metric) if base else None
    return ours.mean - other.mean if ours and other else None


def judge_order(part: Part) -> list[Judged]:
    """The order of rows: the paper's, and ours.

    Args:
      part: of a table; of a row that has several lines, the one with most seeds is taken.

    Returns:
      All inequalities between neighbouring rows; none of experiments that the paper does not have.
    """
    names = {line.row.row: line.row for line in part.lines}
    lines = {row: paper_line(name) for row, name in names.items()}
    means = {row: line.top1 for row, line in lines.items() if line}
    judged = []
    for expected in order_of(means):
        lower, higher = (_stats(part, names[row]) for row in (expected.lower, expected.higher))
        verdict = holds(lower, higher, expected.strict) if lower and higher else "missing"
        judged.append(Judged(expected, lower, higher, verdict))
    return judged


def _stats(part: Part, row: RunName) -> Stats | None:
    line = part.find(row)
    return line.stats("top1") if line else None


def compare_with_like(line: Line, part: Part) -> tuple[float | None, str]:
    """How a row beyond the paper compares with the row of Table 5 that it is a variant of.

    Args:
      line: of an experiment beyond the paper.
      part: that it is of, which has the row of Table 5 as well.

    Returns:
      The difference in %, and ``'above'``, ``'below'``, ``'undecided'`` or, where one of the two
      is missing, ``'missing'``.
    """
    like = _named(part.rows, line.row.find().like)
    ours, other = line.stats("top1"), _stats(part, like) if like else None
    if ours is None or other is None:
        return None, "missing"
    return ours.mean - other.mean, better(ours, other)


def _named(rows: Sequence[RunName], name: str) -> RunName | None:
    return next((row for row in rows if row.row == name), None)
