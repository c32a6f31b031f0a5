"""-log SNR of layers as lines: darker is earlier, each with its name and a cross where it stops."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from jaxws.records.lines import label_ends
from jaxws.system.text import printable

NAME_SIZE = 7.0  # points, of the names of layers
NAME_HEIGHT = 0.135  # inches that a panel needs for each
WHY_THEY_STOP = (
    "\N{MULTIPLICATION SIGN} SNR is infinite from here on: within some pool all weights agree"
    " exactly, so that nothing is left to share."
)


def stop_of(values: np.ndarray) -> int | None:
    """Where a line stops before its run does.

    Args:
      values: of shape (n,), NaN where there is no point.

    Returns:
      The index of its last point; None if that is the last of all, or there is none.

    Example:
      >>> stop_of(np.array([1.0, 2.0, np.nan]))
      1
    """
    there = np.flatnonzero(np.isfinite(values))
    return int(there[-1]) if len(there) and there[-1] < len(values) - 1 else None


def draw_layers(
    axes: Axes, steps: np.ndarray, values: Mapping[str, np.ndarray], marker: str = ""
) -> bool:
    """Draws a line for each layer, with a cross where it stops before the others.

    Args:
      axes: to draw into.
      steps: of shape (n,).
      values: -log SNR by layer, of shape (n,); NaN where it is not finite.
      marker: of every point, so that those between two gaps are seen.

    Returns:
      Whether any line stops, which :data:`WHY_THEY_STOP` explains.
    """
    # From dark to light with depth; lighter is too light on white.
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.9, max(len(values), 1)))
    stops = {name: stop_of(series) for name, series in values.items()}
    for (name, series), colour in zip(values.items(), colours, strict=True):
        style = {"color": colour, "linewidth": 1, "marker": marker, "markersize": 2}
        axes.plot(steps, series, label=_text(name), **style)
        if (stop := stops[name]) is not None:
            axes.plot(steps[stop], series[stop], "x", color=colour, markersize=6, mew=1.6)
    silent = [name for name, series in values.items() if np.isnan(series).all()]
    if silent:
        text = f"infinite throughout: {', '.join(map(printable, silent))}"
        axes.annotate(
            text,
            (0.01, 0.02),
            xycoords="axes fraction",
            fontsize=NAME_SIZE,
            color="0.4",
            parse_math=False,
        )
    axes.set_ylabel("-log SNR")
    axes.margins(x=0.01)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    return any(stop is not None for stop in stops.values())


def name_layers(axes: Axes, size: float = NAME_SIZE) -> None:
    """Writes the names of layers that have a point at the right of the axes.

    Args:
      axes: of :func:`draw_layers`, whose limits must not change any more.
      size: of the letters, points.
    """
    lines = [
        line
        for line in axes.get_lines()
        if line.get_linestyle() != "None" and np.isfinite(line.get_ydata()).any()
    ]
    label_ends(axes, lines, [str(line.get_label()) for line in lines], size=size)


def _text(name: str) -> str:
    # A label that begins with _ is none to matplotlib.
    return f" {text}" if (text := printable(name)).startswith("_") else text
