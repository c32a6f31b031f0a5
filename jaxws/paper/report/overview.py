"""The first table of a report: how much of each table is there, and how many verdicts of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from jaxws.paper.experiments import TITLES
from jaxws.paper.labels import DATASETS
from jaxws.paper.report.comparison import compare, compare_with_like, judge_order, metrics_of
from jaxws.paper.report.document import Table
from jaxws.paper.report.lines import Part
from jaxws.paper.tables import SOURCES


class Section(NamedTuple):
    """An experiment on one data set.

    Attributes:
      experiment: such as ``'table5'``.
      parts: its rows; one part for each kind of run.
    """

    experiment: str
    parts: Sequence[Part]


def overview(sections: Iterable[Section]) -> Table:
    """Counts.

    Args:
      sections: of a report.

    Returns:
      A line for each of them.
    """
    names = ["table", "data", "rows with runs", "accuracies", "order of rows"]
    columns = list(zip(names, *map(_row, sections), strict=True))
    head, *rows = zip(*(column for column in columns if any(column[1:])), strict=True)
    return Table("What came out, in short", head, rows)


def _row(section: Section) -> list[str]:
    rows = section.parts[0].rows
    there = {line.row for part in section.parts for line in part.lines if line.results}
    return [
        TITLES[section.experiment].split(",")[0],
        DATASETS[rows[-1].dataset],
        f"{len(there)} of {len(rows)}",
        _counted(_agreements(section)),
        _counted(_order(section)),
    ]


def _agreements(section: Section) -> Iterator[str]:
    for part in section.parts if section.experiment in SOURCES else ():
        for line in part.lines:
            for metric in metrics_of(part):
                if agreement := compare(line, part, metric).agreement:
                    yield agreement.verdict


def _order(section: Section) -> Iterator[str]:
    for part in section.parts:
        if section.experiment in SOURCES:
            yield from (judged.verdict for judged in judge_order(part))
        else:
            own = (line for line in part.lines if line.row.experiment == section.experiment)
            yield from (compare_with_like(line, part)[1] for line in own)


def _counted(verdicts: Iterable[str]) -> str:
    return ", ".join(f"{what}: {number}" for what, number in sorted(Counter(verdicts).items()))
