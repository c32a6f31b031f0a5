"""-log SNR of every layer over training steps, as in the paper's Fig. 6."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxws.paper.experiments import experiment_rows
from jaxws.paper.figures.canvas import Drawing, make_canvas, panels_of
from jaxws.paper.figures.runs import RowRuns, Runs, caption_of
from jaxws.paper.labels import row_label, title_of
from jaxws.paper.results import Result
from jaxws.paper.state import DIVERGED, DONE
from jaxws.records.snr_lines import (
    NAME_HEIGHT,
    WHY_THEY_STOP,
    draw_layers,
    name_layers,
    stop_of,
)

_HEIGHT = 2.0  # of a panel at least; inches
_NOT_A_NUMBER = " In a run that diverged it may be that weights are no numbers any more."
_READ = (
    "Natural logarithm of inverse SNR, Eq. (6), before weights are shared; a line for each layer"
    " with shared weights, of one run for each row."
)


class Layers(NamedTuple):
    """What a run recorded.

    Attributes:
      row: whose run it is.
      run: the run.
      steps: of shape (n,).
      values: -log SNR by layer, of shape (n,); NaN where it was not finite.
    """

    row: RowRuns
    run: Result
    steps: np.ndarray
    values: dict[str, np.ndarray]

    @property
    def stopped(self) -> dict[str, int]:
        """The index of the last point of layers that have none at the end of the run."""
        stops = {name: stop_of(values) for name, values in self.values.items()}
        return {name: stop for name, stop in stops.items() if stop is not None}


def draw_snr(runs: Runs, experiment: str, dataset: str) -> Drawing | None:
    """Draws a panel for each row with weight sharing of which something was recorded.

    Args:
      runs: results; runs that are going on or diverged are drawn as far as they came.
      experiment: a table, or ``'fig6'``.
      dataset: one of its data sets.

    Returns:
      A picture; None if no run has recorded any.
    """
    rows = [
        runs.row(experiment, dataset, row.name, _panel_label(row.name))
        for row in experiment_rows(runs.scale.name, experiment, dataset)
        if "sharing.every" in row.fields
    ]
    shown = [layers for row in rows if (layers := read_layers(row)) is not None]
    if not shown:
        return None
    name = title_of(experiment, dataset)
    title = name if experiment == "fig6" else f"-log SNR, {name}"
    most = max(len(layers.values) for layers in shown)
    canvas = make_canvas(title, 1.1 + len(shown) * max(_HEIGHT, NAME_HEIGHT * most))
    panels = panels_of(canvas, len(shown), sharex=True, sharey=True)
    for letter, axes, layers in zip(string.ascii_uppercase, panels, shown, strict=False):
        axes.set_title(f"{letter}. {layers.row.label}{_state(layers.run)}")
        draw_layers(axes, layers.steps, layers.values)
    panels[-1].set_xlabel("training step")
    for axes in panels:  # once the limits that they share are known
        name_layers(axes)
    alt = " ".join([f"{title}.", *map(_describe, shown)])
    return Drawing(canvas, alt, caption_of(runs.scale, _READ, rows), _note(shown))


def read_layers(row: RowRuns) -> Layers | None:
    """What was recorded of a row: of a finished run before others, of the least seed among those.

    Args:
      row: its runs; values in them may be None or not finite.

    Returns:
      Steps and values; None if no run recorded any.
    """
    runs = (*row.done, *row.others)
    run = next((run for run in runs if any(values for _, values in run.snr)), None)
    if run is None:
        return None
    names = list(dict.fromkeys(name for _, values in run.snr for name in values))
    values = [[values.get(name, np.nan) for name in names] for _, values in run.snr]
    table = np.array(values, float)
    table[~np.isfinite(table)] = np.nan
    steps = np.array([step for step, _ in run.snr])
    return Layers(row, run, steps, dict(zip(names, table.T, strict=True)))


def _panel_label(row: str) -> str:
    label, _, rate = row_label(row).partition(", lr")
    return f"Learning rate {rate}, {label.removeprefix('LC - ')}" if rate else label


def _state(run: Result) -> str:
    """The seed, and how far a run is that is not finished."""
    told = "" if run.state == DONE else f", {run.state} after {run.steps:,} steps"
    return f" (seed {run.name.seed or 0}{told})"


def _note(shown: Sequence[Layers]) -> str:
    """Why lines stop, if any do."""
    stopped = [layers.run.state for layers in shown if layers.stopped]
    return WHY_THEY_STOP * bool(stopped) + _NOT_A_NUMBER * (DIVERGED in stopped)


def _describe(layers: Layers) -> str:
    """The last values of a panel in words."""
    finite = [values[np.isfinite(values)] for values in layers.values.values()]
    last = [values[-1] for values in finite if len(values)]
    ends = f"lines end from {min(last):.1f} to {max(last):.1f}" if last else "no line"
    count = f"{len(layers.stopped)} of {len(layers.values)}"
    return f"{layers.row.label}: {ends}, {count} stop before the run does."
