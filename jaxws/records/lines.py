"""Lines with bands over runs, and labels at their ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

_LETTERS = 8.5  # points, of labels
_LINE_HEIGHT = 1.4  # of labels below each other, in sizes of their letters
_NEAR = 0.9  # of the axes' width: from there on a line ends close to its label


class Band(NamedTuple):
    """Values of several runs at the same places.

    Attributes:
      x: places, of shape (n,).
      values: of shape (runs, n).
    """

    x: np.ndarray
    values: np.ndarray


def draw_band(axes: Axes, band: Band, **options: Any) -> Line2D:
    """Draws the mean over runs as a line, and a band from the smallest to the largest.

    Args:
      axes: to draw into.
      band: values.
      **options: of the line.

    Returns:
      The line.
    """
    (line,) = axes.plot(band.x, band.values.mean(0), **options)
    low, high = band.values.min(0), band.values.max(0)
    axes.fill_between(band.x, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
    return line


def label_ends(
    axes: Axes, lines: Sequence[Line2D], labels: Sequence[str], size: float = _LETTERS
) -> None:
    """Writes what each line is at the right of the axes, and leads from its end to the label.

    Limits of the axes must not change any more.

    Args:
      axes: where the lines are.
      lines: each with a point at least; may be none.
      labels: of the lines.
      size: of the letters, points.
    """
    axes.autoscale_view()  # else limits are found only when they are drawn
    canvas = axes.get_figure(root=True)
    assert canvas is not None
    height = axes.get_window_extent().height / canvas.dpi * 72
    # What cannot be seen any more is labelled at the edge.
    ends = np.array([_last_point(line) for line in lines]).reshape(-1, 2)
    inside = axes.transAxes.inverted().transform(axes.transData.transform(ends))
    wanted = np.clip(inside[:, 1], 0, 1)
    places = spread_out(wanted, _LINE_HEIGHT * size / height)
    for line, label, end, at, place in zip(lines, labels, ends, inside[:, 0], places, strict=True):
        lead = {
            "arrowstyle": "-",
            "color": line.get_color(),
            "linewidth": 0.9,
            # A long way to the label is no line of the data.
            "linestyle": "-" if at > _NEAR else (0, (1, 4)),
            "shrinkA": 2,
            "shrinkB": 0,
            "relpos": (0, 0.5),
            "patchA": None,
        }
        axes.annotate(
            label,
            tuple(end),
            xytext=(1.06, place),
            textcoords=axes.transAxes,
            va="center",
            fontsize=size,
            arrowprops=lead,
            annotation_clip=False,
            parse_math=False,  # names of layers and runs are no formulas
        )


def spread_out(places: np.ndarray, gap: float) -> np.ndarray:
    """Moves places apart, so that labels at them do not touch; their order stays.

    Args:
      places: from 0 to 1, of shape (n,).
      gap: the least difference of two of them; smaller if there is no room for it.

    Returns:
      Places of the same shape, from 0 to 1.

    Example:
      >>> spread_out(np.array([0.5, 0.5, 0.5]), gap=0.25)
      array([0.25, 0.5 , 0.75])
    """
    count = len(places)
    gap = min(gap, 1 / max(count - 1, 1))
    order = np.argsort(places, kind="stable")
    steps = gap * np.arange(count)
    # Of what keeps the gap, the nearest in least squares: an isotonic regression (pool adjacent
    # violators) of what is left of each place without the gaps below it.
    blocks: list[tuple[float, int]] = []
    for value in places[order] - steps:
        mean, size = float(value), 1
        while blocks and blocks[-1][0] > mean:
            last, number = blocks.pop()
            mean, size = (mean * size + last * number) / (size + number), size + number
        blocks.append((mean, size))
    levels = np.concatenate([np.full(size, mean) for mean, size in blocks]) if blocks else steps
    moved = np.empty(count)
    moved[order] = np.clip(levels, 0, 1 - gap * max(count - 1, 0)) + steps
    return moved


def _last_point(line: Line2D) -> tuple[float, float]:
    points = np.asarray(line.get_xydata(), float)
    x, y = points[np.isfinite(points[:, 1])][-1]
    return float(x), float(y)
