"""A report as CSV: one line per row, with all digits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from jaxws.paper.csv_tables import table_text
from jaxws.paper.published_results import changes_text
from jaxws.paper.report.comparison import Compared, compare, judge_order
from jaxws.paper.report.lines import METRICS, Line, Part
from jaxws.paper.scales import SCALES
from jaxws.paper.tables import SOURCES

_OF_METRIC = ("mean", "spread", "diff", "paper", "paper_spread", "paper_diff", "verdict")
COLUMNS = (
    *("experiment", "name", "is_paper", "changes", "seeds"),
    *(f"{metric}_{column}" for metric in METRICS for column in _OF_METRIC),
    *("order", "seconds"),
)


def to_csv(sections: Iterable[tuple[str, Iterable[Part]]]) -> str:
    """Writes the rows of a report.

    Args:
      sections: pairs of an experiment and its parts.

    Returns:
      CSV, accuracies in %. ``is_paper`` tells whether the row may be held against the paper's
      numbers, which at smaller scales are for reference; ``order`` is the verdict on the inequality
      between the row and its neighbour; ``seconds`` is the mean wall time of a run.
    """
    lines = (_line(x, part, name) for name, parts in sections for part in parts for x in part.lines)
    return table_text(COLUMNS, lines)


def _line(line: Line, part: Part, experiment: str) -> dict[str, str]:
    seconds = [result.seconds for result in line.results]
    texts = {
        "experiment": experiment,
        "name": str(line.row),
        "is_paper": "yes" if SCALES[line.row.scale].is_paper else "no",
        "changes": changes_text(line.changes),
        "seeds": " ".join(str(result.name.seed) for result in line.results),
        "order": _order(line, part) if experiment in SOURCES else "",
        "seconds": f"{sum(seconds) / len(seconds):.1f}" if seconds else "",
    }
    for metric in METRICS:
        numbers = _metric(compare(line, part, metric))
        texts |= {f"{metric}_{key}": text for key, text in numbers}
    return texts


def _order(line: Line, part: Part) -> str:
    if part.find(line.row) is not line:
        return ""
    return next((j.verdict for j in judge_order(part) if j.expected.about == line.row.row), "")


def _metric(found: Compared) -> Iterator[tuple[str, str]]:
    ours = found.ours
    numbers: dict[str, Any] = {
        "mean": ours.mean if ours else None,
        "spread": ours.spread if ours and ours.n > 1 else None,
        "diff": found.diff,
        "paper": found.paper,
        "paper_spread": found.paper_spread,
        "paper_diff": found.paper_diff,
    }
    for key, value in numbers.items():
        yield key, "" if value is None else f"{value:.6g}"
    yield "verdict", found.agreement.verdict if found.agreement else ""
