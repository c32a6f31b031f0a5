"""What figures have in common: size, style, a title, and the mark of what is not the paper's."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from matplotlib import figure as figures
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from jaxws.paper.scales import Scale

# Read at 700 pixels and on a phone: letters are 2.4 % of the width.
_WIDTH = 5.6  # inches
# On top of matplotlib's defaults, whatever the user's own are: the same bytes everywhere.
_STYLE: Mapping[str, Any] = MappingProxyType(
    {
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 9.5,
        "figure.dpi": 160,
        "figure.constrained_layout.use": True,
        "font.size": 9.5,
        "grid.alpha": 0.3,
        "lines.linewidth": 1.6,
        "lines.markersize": 4,
        "text.parse_math": False,  # names of layers and rows are no formulas
    }
)
FAINT = "0.4"  # of what is beside the numbers
SMALL = 8.5  # points


class Figure(NamedTuple):
    """A figure as reports show it.

    Attributes:
      png: the picture, the same bytes for the same results.
      alt: what it shows, for those who do not see it; plain text.
      caption: how to read it, and what lacks; plain text.
    """

    png: bytes
    alt: str
    caption: str


class Drawing(NamedTuple):
    """A figure before it is written.

    Attributes:
      canvas: its picture, see :func:`make_canvas`.
      alt: as of :class:`Figure`.
      caption: as well.
      note: on the picture: how to read it, where it cannot be read without.
    """

    canvas: figures.Figure
    alt: str
    caption: str
    note: str = ""


def styled() -> Any:
    """The style of all figures, as a context in which they are drawn and written.

    Returns:
      A context manager.

    Example:
      >>> with styled():
      ...     canvas = make_canvas("Table 5", height=3)
      >>> canvas.get_suptitle()
      'Table 5'
    """
    return style.context(["default", dict(_STYLE)])


def make_canvas(title: str, height: float) -> figures.Figure:
    """An empty picture.

    Args:
      title: above it.
      height: inches.

    Returns:
      A figure of matplotlib.

    Example:
      >>> float(make_canvas("Table 5", height=3).get_figheight())
      3.0
    """
    canvas = figures.Figure(figsize=(_WIDTH, height))
    lines = textwrap.fill(title, 62)
    canvas.suptitle(lines, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    return canvas


def mark_of(scale: Scale) -> str:
    """What tells the results of a smaller scale from the paper's.

    Args:
      scale: of the results.

    Returns:
      A sentence; empty for the published scale.

    Example:
      >>> from jaxws.paper.scales import SCALES
      >>> mark_of(SCALES["small"])[:29]
      "Not the paper's: ResNet-8 of "
    """
    return "" if scale.is_paper else f"Not the paper's: {scale.about}."


def write_figure(drawing: Drawing, scale: Scale) -> Figure:
    """Writes a picture, with its note and mark below.

    Args:
      drawing: the picture, made in the same context of :func:`styled`.
      scale: of its results.

    Returns:
      The figure.

    Example:
      >>> from jaxws.paper.scales import SCALES
      >>> drawing = Drawing(make_canvas("Table 5", height=1), "", "")
      >>> write_figure(drawing, SCALES["small"]).png[1:4]
      b'PNG'
    """
    texts = (drawing.note, mark_of(scale))
    lines = [line for text in texts for line in textwrap.wrap(text, 82)]
    if lines:
        text = "\n".join(lines)
        drawing.canvas.supxlabel(text, x=0.01, ha="left", fontsize=SMALL, color=FAINT)
    agg = FigureCanvasAgg(drawing.canvas)
    agg.draw()
    pixels = Image.fromarray(np.asarray(agg.buffer_rgba())).convert("RGB")
    file = io.BytesIO()
    # A third of the bytes of all colours; nobody sees the difference.
    pixels.quantize(256, dither=Image.Dither.NONE).save(file, format="png", optimize=True)
    return Figure(file.getvalue(), drawing.alt, drawing.caption)


def panels_of(canvas: figures.Figure, count: int, **options: Any) -> list[Axes]:
    """Axes below one another.

    Args:
      canvas: see :func:`make_canvas`.
      count: how many.
      **options: of ``Figure.subplots``.

    Returns:
      The axes, from the top.

    Example:
      >>> len(panels_of(make_canvas("Fig. 6", height=6), 3))
      3
    """
    return list(canvas.subplots(count, squeeze=False, **options)[:, 0])
