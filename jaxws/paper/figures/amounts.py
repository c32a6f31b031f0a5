"""Accuracies over an amount, such as a number of images, on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from jaxws.paper.figures.canvas import FAINT
from jaxws.paper.figures.curves import READ
from jaxws.paper.figures.runs import RowRuns, Runs


class Point(NamedTuple):
    """A row that differs from others in an amount."""

    amount: float
    row: RowRuns


def draw_amounts(axes: Axes, points: Sequence[Point], **options: Any) -> Line2D | None:
    """Draws means as a line, a band from the smallest to the largest, and a dot for each run.

    Args:
      axes: to draw into.
      points: by amount; those without a finished run are left out.
      **options: of the line.

    Returns:
      The line; None if there is no point.
    """
    points = [point for point in points if point.row.done]
    if not points:
        return None
    amounts = [point.amount for point in points]
    (line,) = axes.plot(amounts, [point.row.mean for point in points], **options)
    low = [min(point.row.accuracies) for point in points]
    high = [max(point.row.accuracies) for point in points]
    axes.fill_between(amounts, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
    for amount, row in points:
        values = row.accuracies
        axes.plot(np.full(len(values), amount), values, "o", color=line.get_color(), mew=0)
        if row.published:
            axes.plot(amount * 1.06, row.published.top1, "D", mfc="white", mec=FAINT)
    return line


def how_to_read(runs: Runs) -> str:
    """What lines, bands and dots are.

    Args:
      runs: of the figure.

    Returns:
      Sentences.
    """
    diamonds = " Diamonds beside them are the paper's means." if runs.scale.is_paper else ""
    return f"{READ} Dots are runs.{diamonds}"


def set_amounts(axes: Axes, ticks: Mapping[float, str], label: str) -> None:
    """Makes the axis of amounts.

    Args:
      axes: with all lines.
      ticks: texts by amount.
      label: of the axis.
    """
    axes.set_xscale("log")
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel=label, ylabel="test top-1 accuracy (%)")
    axes.margins(x=0.04)
