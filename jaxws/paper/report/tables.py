"""The tables of a report: ours beside the paper's, the order of rows, and what lies beyond it."""

from __future__ import annotations

from collections.abc import Iterator

from jaxws.paper.labels import DATASETS, name_label, row_label
from jaxws.paper.report.comparison import (
    Judged,
    compare,
    compare_with_like,
    judge_order,
    metrics_of,
)
from jaxws.paper.report.document import Block, Table
from jaxws.paper.report.lines import REFERENCE, Line, Part
from jaxws.paper.report.verdicts import NO_SPREAD, OUTSIDE, Agreement, Stats
from jaxws.paper.scales import SCALES
from jaxws.paper.tables import SOURCES

MISSING = "missing"
_NAMES = {"top1": "Top-1", "top5": "Top-5"}


def part_tables(part: Part, experiment: str) -> Iterator[Block]:
    """The tables of an experiment on one data set.

    Args:
      part: of it.
      experiment: such as ``'table5'``.

    Yields:
      A table for each accuracy, and one of the order of rows where the paper has one.
    """
    if experiment not in SOURCES:
        yield _beyond(part, experiment)
        return
    for metric in metrics_of(part):
        yield _accuracies(part, experiment, metric)
    if judged := judge_order(part):
        yield _order(part, judged)


def _about(part: Part) -> str:
    """What of the runs a caption must say: on which data, and whether they are the paper's."""
    name = part.rows[-1]
    scale = SCALES[name.scale]
    kind = f", with {part.kind}" if part.kind else ""
    mark = "" if scale.is_paper else f" (not the paper's: {scale.about})"
    return f"on {DATASETS[name.dataset]}{kind}{mark}"


def _accuracies(part: Part, experiment: str, metric: str) -> Table:
    scale = SCALES[part.rows[0].scale]
    by_row = {judged.expected.about: judged for judged in judge_order(part)}
    head = ["row", "paper", "spread", "Diff", "ours", "our spread", "n", "our Diff", "rates"]
    rows = []
    for line in part.lines:
        found = compare(line, part, metric)
        if not line.results:
            verdict = MISSING
        elif scale.is_paper:
            verdict = _agreement(found.agreement)
        else:
            verdict = _judgement(by_row.get(line.row.row), line, part)
        published = (found.paper, found.paper_spread, found.paper_diff)
        texts = [_number(published[0]), _number(published[1]), _signed(published[2])]
        ours = [*_stats(found.ours, part.wanted[line.row]), _signed(found.diff), line.rates]
        rows.append([name_label(line.row, experiment), *texts, *ours, verdict])
    if scale.is_paper:
        reference, verdict = "", "within the paper's spread?"
    else:
        reference = f". The paper's numbers, of {DATASETS[REFERENCE]}, are for reference only"
        verdict = "order of the paper?"
    caption = f"{_NAMES[metric]} accuracy (%) {_about(part)}{reference}"
    return Table(caption, [*head, verdict], rows, numbers=range(1, 9))


def _agreement(agreement: Agreement | None) -> str:
    if agreement is None:
        return ""
    if agreement.verdict == NO_SPREAD:
        return f"{NO_SPREAD} is known ({_signed(agreement.difference)})"
    than = "more than" if agreement.verdict == OUTSIDE else "up to"
    difference = _signed(agreement.difference)
    return f"{agreement.verdict} ({difference}, {than} {_number(agreement.tolerance)})"


def _judgement(judged: Judged | None, line: Line, part: Part) -> str:
    if judged is None or part.find(line.row) is not line:
        return ""
    other = {judged.expected.lower, judged.expected.higher} - {line.row.row}
    return f"{_sign(judged, line.row.row)} {row_label(other.pop())}: {judged.verdict}"


def _order(part: Part, judged: list[Judged]) -> Table:
    rows = []
    for each in judged:
        lower, higher = each.lower, each.higher
        ours = _signed(higher.mean - lower.mean) if lower and higher else ""
        text = f"{row_label(each.expected.lower)} {_sign(each, each.expected.lower)}"
        rows.append(
            [
                f"{text} {row_label(each.expected.higher)}",
                _signed(each.expected.paper),
                ours,
                _range(lower),
                _range(higher),
                each.verdict,
            ]
        )
    head = ["top-1", "paper", "ours", "seeds of the left", "of the right", "verdict"]
    caption = f"Order of rows {_about(part)}, differences of top-1 accuracy (%)"
    return Table(caption, head, rows, numbers=range(1, 5))


def _beyond(part: Part, experiment: str) -> Table:
    rows = []
    for line in part.lines:
        found, own = compare(line, part), line.row.experiment == experiment
        difference, verdict = compare_with_like(line, part) if own and line.results else (None, "")
        like = row_label(line.row.find().like)
        told = f"{_signed(difference)} to {like}: {verdict}" if difference is not None else verdict
        ours = [*_stats(found.ours, part.wanted[line.row]), _signed(found.diff), line.rates]
        verdict = told if line.results else MISSING
        rows.append([name_label(line.row, experiment), *ours, verdict])
    head = ["row", "top-1", "spread", "n", "Diff", "rates", "against its row of Table 5"]
    caption = f"Top-1 accuracy (%) {_about(part)}. The paper has no such table"
    return Table(caption, head, rows, numbers=range(1, 6))


def _sign(judged: Judged, left: str) -> str:
    sign = "<" if left == judged.expected.lower else ">"
    return sign if judged.expected.strict else {"<": "≤", ">": "≥"}[sign]


def _stats(stats: Stats | None, wanted: int) -> list[str]:
    """Mean, spread and how many of the seeds there are."""
    if stats is None:
        return ["", "", f"0 of {wanted}"]
    seeds = str(stats.n) if stats.n == wanted else f"{stats.n} of {wanted}"
    return [_number(stats.mean), _number(stats.spread) if stats.n > 1 else "", seeds]


def _range(stats: Stats | None) -> str:
    return f"{min(stats.values):.1f} to {max(stats.values):.1f}" if stats else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{round(value, 1) + 0.0:+.1f}"  # never -0.0
