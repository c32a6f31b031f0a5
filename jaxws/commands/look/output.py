"""What the figures of ``look`` have in common: their style, and the files that are made of them."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from jaxws.system.text import printable

PANEL = 2.0  # inches
_NARROWEST = 6.4  # inches; titles and legends need some room
_DPI = 130
_STYLE: dict[str, Any] = {
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "figure.constrained_layout.use": True,
    "font.size": 8,
    "text.parse_math": False,  # names of layers are no formulas
    "pdf.fonttype": 42,  # text that can be edited
}


class Result(NamedTuple):
    """A figure, and the numbers of it.

    Attributes:
      name: of its files, without a suffix.
      figure: the picture.
      columns: names of the table's columns.
      rows: of the table.
      summary: for ``--json`` and the terminal: what can be written as JSON, a list of records.
    """

    name: str
    figure: Figure
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    summary: list[dict[str, Any]]


def styled() -> Any:
    """The style of all figures, as a context; whatever the user's own is."""
    return style.context(["default", _STYLE])


def make_grid(rows: Sequence[str], columns: Sequence[str], **options: Any) -> tuple[Figure, Any]:
    """Panels in rows of networks.

    Args:
      rows: their titles.
      columns: their titles.
      **options: of ``Figure.subplots``; ``panel``, (width, height) in inches.

    Returns:
      The figure and its axes, 2-D.
    """
    width, height = options.pop("panel", (PANEL, PANEL))
    size = (max(0.6 + width * len(columns), _NARROWEST), 1.0 + (height + 0.25) * len(rows))
    figure = Figure(figsize=size, dpi=_DPI)
    axes = figure.subplots(len(rows), len(columns), squeeze=False, **options)
    for row, title in zip(axes, rows, strict=True):
        row[0].set_ylabel(textwrap.fill(printable(title), int(13 * height)))
    for panel, title in zip(axes[0], columns, strict=True):
        panel.set_title(printable(title))
    return figure, axes


def bare(axes: Axes) -> None:
    """Takes ticks and frame away from a picture; its labels stay."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def finish(figure: Figure, title: str, note: str) -> None:
    """Writes what a figure shows above it, and how it was computed below.

    Args:
      figure: the picture.
      title: one line.
      note: sentences.
    """
    letters = int(figure.get_figwidth() * 17)
    figure.suptitle(
        textwrap.fill(printable(title), int(letters * 0.85)), x=0.01, ha="left", fontsize=9.5
    )
    text = textwrap.fill(printable(note), letters)
    figure.supxlabel(text, x=0.01, ha="left", fontsize=7, color="0.35")


def files_of(result: Result, heading: Sequence[str]) -> dict[str, bytes]:
    """A figure as PNG and PDF, its numbers as CSV.

    Args:
      result: figure and numbers.
      heading: lines at the beginning of the CSV: how it was made.

    Returns:
      Contents by name.
    """
    picture, small, page = io.BytesIO(), io.BytesIO(), io.BytesIO()
    result.figure.savefig(picture, dpi=_DPI, format="png")
    # No palette, which would change colours that mean something.
    Image.open(picture).convert("RGB").save(small, format="png", optimize=True)
    result.figure.set_layout_engine("none")  # it has been laid out, which takes long
    result.figure.savefig(page, dpi=_DPI, format="pdf")
    found = {f"{result.name}.png": small.getvalue(), f"{result.name}.pdf": page.getvalue()}
    text = io.StringIO()
    text.writelines(f"# {printable(line)}\n" for line in heading)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(result.columns)
    writer.writerows([_cell(value) for value in row] for row in result.rows)
    found[f"{result.name}.csv"] = text.getvalue().encode("utf-8", "backslashreplace")
    return found


def _cell(value: Any) -> Any:
    """Six digits of a number; nothing for one that is none."""
    if isinstance(value, float | np.floating):
        return f"{value:.6g}" if np.isfinite(value) else ""
    return value


def file_name(kind: str, layer: str) -> str:
    """The name of the files of a layer's figure.

    Example:
      >>> file_name("filters", "layer1_0/conv1")
      'filters_layer1_0.conv1'
    """
    return f"{kind}_{layer.replace('/', '.')}" if layer else kind


def spread(items: Iterable[Any], most: int) -> list[Any]:
    """Some of many, at equal steps, the first and the last among them.

    Example:
      >>> spread("abcdefg", 3)
      ['a', 'd', 'g']
    """
    items = list(items)
    if len(items) <= most:
        return items
    return [items[round(k * (len(items) - 1) / (most - 1))] for k in range(most)]
