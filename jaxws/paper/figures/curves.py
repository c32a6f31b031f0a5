"""Accuracy on test images over epochs, with a band over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from jaxws.paper.experiments import experiment_rows
from jaxws.paper.figures.canvas import Drawing, make_canvas, panels_of
from jaxws.paper.figures.labels import row_line
from jaxws.paper.figures.runs import RowRuns, Runs, caption_of, describe
from jaxws.paper.labels import row_label, title_of
from jaxws.paper.results import Result
from jaxws.paper.rows import FIRST_CONV
from jaxws.records.lines import Band, draw_band, label_ends

READ = "Lines are means over runs, bands reach from the smallest to the largest of them."
_ALL, _FIRST = "all layers locally connected", "1st layer convolutional"


def draw_curves(runs: Runs, experiment: str, dataset: str) -> Drawing | None:
    """Draws the curves of a table; networks with a convolution as first layer in a second panel.

    Args:
      runs: results.
      experiment: a table.
      dataset: one of its data sets.

    Returns:
      A picture; None if no finished run has epochs.
    """
    scale = runs.scale
    names = [row.name for row in experiment_rows(scale.name, experiment, dataset)]
    rows = [runs.row(experiment, dataset, name) for name in names]
    panels = {head: _panel(rows, head == _FIRST) for head in (_ALL, _FIRST)}
    panels = {head: panel for head, panel in panels.items() if panel}
    if not panels:
        return None
    title = title_of(experiment, dataset)
    canvas = make_canvas(title, 0.9 + 2.9 * len(panels))
    for axes, (head, panel) in zip(
        panels_of(canvas, len(panels), sharex=True), panels.items(), strict=True
    ):
        draw_epochs(axes, panel)
        if len(panels) > 1:
            axes.set_title(head)
    axes.set_xlabel("epoch")
    caption = caption_of(scale, f"{READ}{without_curves(rows)}", rows)
    return Drawing(canvas, f"Curves over epochs. {title}. {describe(rows)}", caption)


def draw_epochs(axes: Axes, rows: Sequence[RowRuns]) -> None:
    """Draws curves of rows, as far as there are any.

    Args:
      axes: to draw into.
      rows: to draw.
    """
    drawn = {row.label: row for row in rows if _has_curve(row)}
    lines = [
        draw_band(axes, epoch_band(row.done), **row_line(row.name.row)) for row in drawn.values()
    ]
    axes.set_ylabel("test top-1 accuracy (%)")
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    label_ends(axes, lines, list(drawn))


def epoch_band(done: Sequence[Result]) -> Band:
    """Accuracies of runs at the epochs after which all of them were evaluated.

    Args:
      done: runs of a row; those without any epoch are left aside.

    Returns:
      Accuracies in % over epochs; empty if no run has epochs.

    Example:
      >>> epoch_band([]).x
      array([], dtype=float64)
    """
    series = [found for result in done if (found := _by_epoch(result))]
    common = sorted(set.intersection(*map(set, series))) if series else []
    values = [[one[epoch] for epoch in common] for one in series]
    return Band(np.array(common, float), np.array(values, float).reshape(len(series), len(common)))


def without_curves(rows: Sequence[RowRuns]) -> str:
    """A sentence on finished runs whose epochs are not known, after a space.

    Args:
      rows: of the figure.

    Returns:
      The sentence; empty if there are none.

    Example:
      >>> without_curves([])
      ''
    """
    labels = [row.label for row in rows if any(not _by_epoch(run) for run in row.done)]
    return f" Without epochs in their results: runs of {', '.join(labels)}." if labels else ""


def _by_epoch(result: Result) -> dict[float, float]:
    """Accuracy in % by epoch, where it was measured."""
    pairs = ((record.get("epoch"), record.get("test_top1")) for record in result.epochs)
    return {
        float(epoch): 100 * top1
        for epoch, top1 in pairs
        if epoch is not None and top1 is not None and math.isfinite(top1)
    }


def _has_curve(row: RowRuns) -> bool:
    return len(epoch_band(row.done).x) > 0


def _panel(rows: Sequence[RowRuns], first_conv: bool) -> list[RowRuns]:
    """Rows with a convolution as first layer or not, and conv beside them; none without curves."""
    own = [row for row in rows if row.name.row.startswith(FIRST_CONV) == first_conv]
    if not any(map(_has_curve, own)):
        return []
    return [
        row._replace(label=row_label(row.name.row.removeprefix(FIRST_CONV)))
        for row in rows
        if row in own or row.name.row == "conv"
    ]
