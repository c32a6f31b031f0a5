"""Curves of a run as PNG: accuracy, loss and rates, and -log SNR of every layer as in Fig. 6."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from jaxws.system.text import printable

Record = dict[str, Any]
# What is drawn beneath the loss where it was recorded, and its name.
CURVES = {
    "learning_rate": "learning rate",
    "grad_norm": "gradient norm",
    "smoothness_loss": "smoothness loss",
    "similarity_loss": "similarity loss",
}


def plot_accuracy(records: Iterable[Record]) -> bytes:
    """Draws accuracy on training and test images over epochs.

    Args:
      records: of metrics.jsonl; those of kind ``epoch`` are read.

    Returns:
      A PNG.
    """
    epochs = _of_kind("epoch", records)
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    for key, label, style in (
        ("train_top1", "training, top-1, augmented", ".-C0"),
        ("test_top1", "test, top-1", ".-C1"),
        ("test_top5", "test, top-5", ".:C1"),
    ):
        measured = _with(key, epochs)
        axes.plot(_values("epoch", measured), 100 * _values(key, measured), style, label=label)
    _finish(axes, "epoch", "accuracy (%)")
    axes.set(ylim=(0, 100))
    axes.legend(loc="best", fontsize="small")
    return _png(figure)


def plot_curves(records: Iterable[Record]) -> bytes:
    """Draws loss, and what ``CURVES`` names, over steps, as far as they were recorded.

    Args:
      records: of metrics.jsonl.

    Returns:
      A PNG.
    """
    records = list(records)
    measured, epochs = _of_kind("train", records), _of_kind("epoch", records)
    extra = [key for key in CURVES if any(key in r for r in measured)]
    figure = Figure(figsize=(5, 2.6 + 1.5 * len(extra)), layout="constrained")
    panels = figure.subplots(
        1 + len(extra), sharex=True, squeeze=False, height_ratios=[2.6, *[1.5] * len(extra)]
    )[:, 0]
    for kind, key, label, style in (
        (measured, "train_loss", "training, single steps", {"color": "0.6", "linewidth": 0.8}),
        (epochs, "train_loss", "training, epochs", {"color": "C0", "marker": "."}),
        (_with("test_loss", epochs), "test_loss", "test", {"color": "C1", "marker": "."}),
    ):
        panels[0].plot(_values("step", kind), _values(key, kind), label=label, **style)
    _finish(panels[0], "", "cross-entropy (nats)")
    panels[0].legend(loc="best", fontsize="small")
    for axes, key in zip(panels[1:], extra, strict=True):
        axes.plot(_values("step", measured), _values(key, measured), color="C2", linewidth=1)
        _finish(axes, "", CURVES[key])
        if np.nanmin(_values(key, measured), initial=np.inf) > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_locator(NullLocator())
    panels[-1].set_xlabel("step")
    return _png(figure)


def plot_snr(records: Iterable[Record]) -> bytes:
    """Draws -log SNR of Eq. (6) per LC layer over steps, as measured before sharing.

    Layers whose SNR is not finite have no point; how many they are is drawn beneath, if any are.

    Args:
      records: of metrics.jsonl; those of kind ``train`` are read.

    Returns:
      A PNG.
    """
    measured = _of_kind("train", records)
    layers = list(measured[0]["neg_log_snr"]) if measured else []
    steps = _values("step", measured)
    silent = count_not_finite(measured)
    figure = Figure(figsize=(6.4, 3.6 + any(silent)), layout="constrained")
    ratios = [3.6, 1.0] if any(silent) else [3.6]
    panels = figure.subplots(len(ratios), sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.92, max(len(layers), 1)))
    for layer, colour in zip(layers, colours, strict=False):
        values = _values(layer, [record["neg_log_snr"] for record in measured])
        panels[0].plot(steps, values, ".-", markersize=2, color=colour)
    _finish(panels[0], "", r"$-\log\,\mathrm{SNR}_w$ before sharing")
    if any(silent):
        panels[1].step(steps, silent, where="post", color="0.3", linewidth=1)
        panels[1].set_ylim(0, len(layers))
        _finish(panels[1], "", f"not finite\n(of {len(layers)})")
    panels[-1].set_xlabel("step")
    if layers:
        # Names as they are: in a plain label, $ would begin a formula and _ hide it.
        lines = panels[0].get_lines()
        legend = figure.legend(lines, [""] * len(lines), loc="outside right upper", fontsize=6)
        for text, layer in zip(legend.get_texts(), layers, strict=True):
            text.set(text=printable(layer), parse_math=False)
    return _png(figure)


def count_not_finite(measured: Sequence[Record]) -> list[int]:
    """In how many layers the SNR was not finite.

    All weights of some pool agree exactly there: nothing is left to be shared, as when the channel
    that they read is silent.

    Args:
      measured: records of kind ``train``.

    Returns:
      A number for each record.

    Example:
      >>> count_not_finite([{"neg_log_snr": {"conv1": None, "layer1_0/conv1": -2.0}}])
      [1]
    """
    return [sum(value is None for value in record["neg_log_snr"].values()) for record in measured]


def _of_kind(kind: str, records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record["kind"] == kind]


def _with(key: str, records: Iterable[Record]) -> list[Record]:
    """Those of epochs in which it was measured, which a line joins; null leaves a gap."""
    return [record for record in records if key in record]


def _values(key: str, records: Sequence[Record]) -> np.ndarray:
    """A number of each record; NaN, which leaves a gap, where it is null or was not recorded."""
    values = [record.get(key) for record in records]
    return np.array([np.nan if value is None else value for value in values], float)


def _finish(axes: Axes, xlabel: str, ylabel: str) -> None:
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, dpi=150, format="png")
    return file.getvalue()
