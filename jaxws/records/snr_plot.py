"""-log SNR of every layer of a run over its steps as PNG, as in Fig. 6."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure

from jaxws.records.plotting import Record, finish, of_kind, values_of, write_png
from jaxws.records.snr_lines import NAME_HEIGHT, NAME_SIZE, WHY_THEY_STOP, draw_layers, name_layers

_GAPS = WHY_THEY_STOP.replace(
    "\N{MULTIPLICATION SIGN} SNR is infinite from here on:", "Without a point SNR is infinite:"
)
_WIDTH, _HEIGHT = 5.2, 3.4  # inches; names of layers are beside the axes
_LETTERS = 8.0  # points, of those: on a phone too


def plot_snr(records: Iterable[Record]) -> bytes:
    """Draws -log SNR of Eq. (6) per LC layer over steps, as measured before sharing.

    Each line bears its layer's name. Layers whose SNR is not finite have no point; how many they
    are is drawn beneath, if any are, and where a line stops a cross and a note say why.

    Args:
      records: of metrics.jsonl; those of kind ``train`` are read.

    Returns:
      A PNG.
    """
    measured = of_kind("train", records)
    layers = list(measured[0]["neg_log_snr"]) if measured else []
    silent = count_not_finite(measured)
    heights = [max(_HEIGHT, NAME_HEIGHT * _LETTERS / NAME_SIZE * len(layers)), *[1.0] * any(silent)]
    figure = Figure(figsize=(_WIDTH, sum(heights) + 0.6), layout="constrained")
    panels = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    steps, snr = values_of("step", measured), [record["neg_log_snr"] for record in measured]
    stops = draw_layers(panels[0], steps, {layer: values_of(layer, snr) for layer in layers}, ".")
    finish(panels[0], "", r"$-\log\,\mathrm{SNR}_w$ before sharing")
    if any(silent):
        panels[1].step(steps, silent, where="post", color="0.3", linewidth=1)
        panels[1].set_ylim(0, len(layers))
        finish(panels[1], "", f"layers with\ninfinite SNR\n(of {len(layers)})")
    panels[-1].set_xlabel("step")
    if any(silent):
        note = textwrap.fill(WHY_THEY_STOP if stops else _GAPS, 76)
        figure.supxlabel(note, x=0.01, ha="left", fontsize=8, color="0.3")
    name_layers(panels[0], _LETTERS)
    return write_png(figure)


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
