"""Curves of a run as PNG: accuracy, loss and rates; -log SNR of layers is in snr_plot.py."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.figure import Figure

from jaxws.records.plotting import (
    WIDTH,
    Record,
    finish,
    logarithmic_if_wide,
    of_kind,
    values_of,
    write_png,
)

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
    epochs = of_kind("epoch", records)
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.subplots()
    for key, label, style in (
        ("train_top1", "training, top-1, augmented", ".-C0"),
        ("test_top1", "test, top-1", ".-C1"),
        ("test_top5", "test, top-5", ".:C1"),
    ):
        measured = _with(key, epochs)
        axes.plot(values_of("epoch", measured), 100 * values_of(key, measured), style, label=label)
    finish(axes, "epoch", "accuracy (%)")
    axes.set(ylim=(0, 100))
    axes.legend(loc="best", fontsize="small")
    return write_png(figure)


def plot_curves(records: Iterable[Record]) -> bytes:
    """Draws loss, and what ``CURVES`` names, over steps, as far as they were recorded.

    Args:
      records: of metrics.jsonl.

    Returns:
      A PNG.
    """
    records = list(records)
    measured, epochs = of_kind("train", records), of_kind("epoch", records)
    extra = [key for key in CURVES if any(key in r for r in measured)]
    figure = Figure(figsize=(WIDTH, 2.6 + 1.5 * len(extra)), layout="constrained")
    panels = figure.subplots(
        1 + len(extra), sharex=True, squeeze=False, height_ratios=[2.6, *[1.5] * len(extra)]
    )[:, 0]
    for kind, key, label, style in (
        (measured, "train_loss", "training, single steps", {"color": "0.6", "linewidth": 0.8}),
        (epochs, "train_loss", "training, epochs", {"color": "C0", "marker": "."}),
        (_with("test_loss", epochs), "test_loss", "test", {"color": "C1", "marker": "."}),
    ):
        panels[0].plot(values_of("step", kind), values_of(key, kind), label=label, **style)
    finish(panels[0], "", "cross-entropy (nats)")
    panels[0].legend(loc="best", fontsize="small")
    for axes, key in zip(panels[1:], extra, strict=True):
        values = values_of(key, measured)
        axes.plot(values_of("step", measured), values, color="C2", linewidth=1)
        finish(axes, "", CURVES[key])
        logarithmic_if_wide(axes, values)
    panels[-1].set_xlabel("step")
    return write_png(figure)


def _with(key: str, records: Iterable[Record]) -> list[Record]:
    """Those of epochs in which it was measured, which a line joins; null leaves a gap."""
    return [record for record in records if key in record]
