"""Curves of a run as PNG: accuracy over epochs, and -log SNR of every layer as in Fig. 6."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

Record = dict[str, Any]


def plot_accuracy(records: Iterable[Record], path: Path) -> None:
    """Draws top-1 accuracy on training and test images over epochs.

    Args:
      records: of metrics.jsonl; those of kind ``epoch`` are read.
      path: of the PNG.
    """
    epochs = [record for record in records if record["kind"] == "epoch"]
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    for name, label in (("train", "training, augmented"), ("test", "test")):
        values = [100 * record[f"{name}_top1"] for record in epochs]
        axes.plot([record["epoch"] for record in epochs], values, ".-", label=label)
    axes.set(xlabel="epoch", ylabel="top-1 accuracy (%)", ylim=(0, 100))
    axes.legend(loc="lower right")
    _save(figure, path)


def plot_snr(records: Iterable[Record], path: Path) -> None:
    """Draws -log SNR of Eq. (6) per LC layer over steps, as measured before sharing.

    Args:
      records: of metrics.jsonl; those of kind ``train`` are read.
      path: of the PNG.
    """
    measured = [record for record in records if record["kind"] == "train"]
    layers = list(measured[0]["neg_log_snr"]) if measured else []
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.95, max(len(layers), 1)))
    steps = [record["step"] for record in measured]
    for layer, colour in zip(layers, colours, strict=False):
        values = [record["neg_log_snr"][layer] for record in measured]
        # null: the weights of some pool agree exactly, and the ratio is infinite.
        axes.plot(steps, [np.nan if v is None else v for v in values], color=colour, label=layer)
    axes.set(xlabel="step", ylabel=r"$-\log\,\mathrm{SNR}_w$ before sharing")
    if layers:
        figure.legend(loc="outside right upper", fontsize=6)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    axes = figure.axes[0]
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
