"""Curves of groups of runs over epochs as PNG, with bands over their seeds."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxws.records.comparison import Group
from jaxws.records.plotting import WIDTH, finish, write_png
from jaxws.records.summary import is_hits, metric_label
from jaxws.system.text import printable

# Okabe and Ito's, which colour-blind people tell apart; further groups have other dashes.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_DASHES = ("-", "--", ":", "-.")
_NOTE = (
    "Lines are means over the n seeds of a group, after epochs for which all of them have a score;"
    " bands are one sample standard deviation to both sides."
)
_COLUMNS = 62  # characters of a line of the legend


def plot_comparison(groups: Sequence[Group], metric: str) -> bytes:
    """Draws a line for each group.

    Args:
      groups: at least one.
      metric: such as ``'test_top1'``, which one run at least has.

    Returns:
      A PNG.
    """
    labels = [_label(group, metric) for group in groups]
    lines = sum(label.count("\n") + 1 for label in labels)
    note = textwrap.wrap(_NOTE, 78)
    figure = Figure(figsize=(WIDTH, 3.6 + 0.2 * lines + 0.16 * len(note)), layout="constrained")
    axes = figure.subplots()
    for index, (group, label) in enumerate(zip(groups, labels, strict=True)):
        colour = _COLOURS[index % len(_COLOURS)]
        dashes = _DASHES[index // len(_COLOURS) % len(_DASHES)]
        _draw(axes, group, metric, label=label, color=colour, linestyle=dashes)
    unit = f"{metric_label(metric)} (%)" if is_hits(metric) else metric_label(metric)
    finish(axes, "epoch", unit)
    legend = figure.legend(
        loc="outside lower left", fontsize=8, title="\n".join(note), title_fontsize=7.5
    )
    legend.set_alignment("left")
    for text in legend.get_texts():
        text.set_parse_math(False)
    return write_png(figure)


def _draw(axes: Axes, group: Group, metric: str, **options: Any) -> None:
    epochs, values = group.curve(metric)
    if is_hits(metric):
        values = 100 * values
    if not epochs.size:
        axes.plot([], [], **options)  # its line in the legend says that there is none
        return
    mean = values.mean(0)
    marker = "." if len(epochs) < 30 else ""
    axes.plot(epochs, mean, linewidth=1.5, marker=marker, **options)
    if len(values) > 1:
        spread = values.std(0, ddof=1)
        axes.fill_between(
            epochs, mean - spread, mean + spread, color=options["color"], alpha=0.2, linewidth=0
        )


def _label(group: Group, metric: str) -> str:
    epochs, values = group.curve(metric)
    text = f"{printable(group.label)} (n = {len(values)})"
    if not epochs.size:
        text += ": no epochs with a score in common"
    text = textwrap.fill(text, _COLUMNS)
    return f" {text}" if text.startswith("_") else text  # which is none to matplotlib
