"""What the plots of runs have in common: numbers out of records, axes that show values, a PNG."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

Record = dict[str, Any]
# On a phone 5 inches become 360 pixels: letters of 10 points are read there.
WIDTH = 5.0
_WIDE = 10.0  # values this many times apart, or more, have a logarithmic axis


def of_kind(kind: str, records: Iterable[Record]) -> list[Record]:
    """Records of one kind.

    Args:
      kind: such as ``'epoch'``.
      records: of metrics.jsonl.

    Returns:
      The records, in their order.

    Example:
      >>> of_kind("event", [{"kind": "epoch"}])
      []
    """
    return [record for record in records if record["kind"] == kind]


def values_of(key: str, records: Sequence[Record]) -> np.ndarray:
    """A number of each record.

    Args:
      key: of the number.
      records: n of them.

    Returns:
      Shape (n,); NaN, which leaves a gap, where it is null or was not recorded.

    Example:
      >>> values_of("loss", [{"loss": 1.5}, {"loss": None}])
      array([1.5, nan])
    """
    found = [record.get(key) for record in records]
    return np.array([np.nan if value is None else value for value in found], float)


def finish(axes: Axes, xlabel: str, ylabel: str) -> None:
    """Labels axes, and has their ticks show whole values, without offsets or common factors.

    Args:
      axes: with all that they show.
      xlabel: beneath; epochs or steps, which are whole numbers.
      ylabel: beside.
    """
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:.6g}")


def logarithmic_if_wide(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic y axis where values lie far apart, and ticks that say their values.

    Args:
      axes: that are finished.
      values: that they show, of any shape.
    """
    known = values[np.isfinite(values)]
    if known.size == 0 or known.min() <= 0 or known.max() < _WIDE * known.min():
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def write_png(figure: Figure) -> bytes:
    """Writes a picture.

    Args:
      figure: of matplotlib.

    Returns:
      A PNG.

    Example:
      >>> write_png(Figure(figsize=(1, 1)))[1:4]
      b'PNG'
    """
    file = io.BytesIO()
    figure.savefig(file, dpi=150, format="png")
    return file.getvalue()
