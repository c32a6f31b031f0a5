"""Accuracies of rows below each other: a dot for each run, a bar at their mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from jaxws.paper.figures.canvas import FAINT, SMALL
from jaxws.paper.figures.labels import row_line
from jaxws.paper.figures.runs import RowRuns

ROW_HEIGHT = 0.34  # inches
ACCURACY = "test top-1 accuracy after the last epoch (%)"
_COLUMNS = (20, 60)  # where numbers stand, in points from the right end of the axes
_BAR, _PUBLISHED, _SEED_GAP = 0.3, -0.32, 0.09  # in rows


def draw_dots(axes: Axes, rows: Sequence[RowRuns], ranks: Sequence[int | None] = ()) -> None:
    """Draws rows of dots, with a column of numbers at the right.

    Args:
      axes: to draw into.
      rows: from the top; those without a finished run say so.
      ranks: places of the rows in the paper's order, where only that may be compared; else empty.
    """
    for place, row in enumerate(rows):
        colour = row_line(row.name.row)["color"]
        if row.done:
            middle = (len(row.done) - 1) / 2
            heights = [place + _SEED_GAP * (index - middle) for index in range(len(row.done))]
            axes.plot(row.accuracies, heights, "o", color=colour, alpha=0.65, mew=0)
            axes.vlines(row.mean, place - _BAR, place + _BAR, color=colour, linewidth=2.2)
        else:
            _write(axes, (0, place), 4, "no finished run", ha="left", style="italic")
        _draw_published(axes, place, row)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel=ACCURACY)
    axes.margins(x=0.06)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    means = [f"{row.mean:.1f}" if row.done else "-" for row in rows]
    _column(axes, _COLUMNS[0], "mean", means)
    if any(row.published for row in rows):
        texts = [f"{row.published.top1:.1f}" if row.published else "-" for row in rows]
        _column(axes, _COLUMNS[1], "paper", texts)
    if ranks:
        own = rank([row.mean if row.done else None for row in rows])
        texts = [f"{a} ({b})" if a else "-" for a, b in zip(own, ranks, strict=True)]
        _column(axes, _COLUMNS[1], "place\n(paper)", texts)


def rank(values: Sequence[float | None]) -> list[int | None]:
    """Places of values, the largest first.

    Args:
      values: None for those that do not take part.

    Returns:
      Places from 1; the same one where values are equal.

    Example:
      >>> rank([0.5, None, 0.75, 0.5])
      [2, None, 1, 2]
    """
    known = [value for value in values if value is not None]
    return [None if v is None else 1 + sum(other > v for other in known) for v in values]


def _draw_published(axes: Axes, place: int, row: RowRuns) -> None:
    """The paper's mean above the row's own, and a line as long as its spread."""
    if row.published is None:
        return
    mean, spread = row.published.top1, row.published.top1_spread or 0.0
    height = place + _PUBLISHED
    axes.hlines(height, mean - spread / 2, mean + spread / 2, color=FAINT, linewidth=1)
    axes.plot(mean, height, "D", mfc="white", mec=FAINT)


def _column(axes: Axes, offset: int, head: str, texts: Sequence[str]) -> None:
    _write(axes, (1, -0.6), offset, head, va="bottom", color=FAINT)
    for place, text in enumerate(texts):
        _write(axes, (1, place), offset, text)


def _write(axes: Axes, at: tuple[float, float], offset: int, text: str, **options: Any) -> None:
    """A text some points beside a place, in widths of the axes and in rows."""
    axes.annotate(
        text,
        at,
        xycoords=("axes fraction", "data"),
        xytext=(offset, 0),
        textcoords="offset points",
        fontsize=SMALL,
        annotation_clip=False,
        **({"ha": "center", "va": "center"} | options),
    )
