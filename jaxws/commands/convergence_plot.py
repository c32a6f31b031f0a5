"""Figs 4 and 5 from their curves: a picture, and a table for whoever draws their own."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jaxws.dynamics.study import Curve, Study

COLUMNS = (
    *("figure", "simulation", "kernel_size", "gamma", "input_mean", "runs", "iteration"),
    *("neg_log_snr_mean", "neg_log_snr_std", "neg_log_snr_min_over_runs"),
    *("neg_log_snr_max_over_runs", "text_floor", "exact_floor"),
)
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")  # Okabe and Ito's
_RULES = {4: {"A": "rule (13)"}, 5: {"A": "rule (21)"}}
_WHY = (
    "{who} can pass their fixed point, Eq. (24), and come back: weights are alike long before"
    " finite inhibition has pulled their mean, and with it the SNR, to where it ends. B ends beside"
    " it, as rates lag by {tau:g} ms, which (24) leaves out."
)
_PASSING = {4: "Curves of B", 5: "Curves"}


def draw(study: Study, curves: Sequence[Curve]) -> Figure:
    """Draws a row of panels for each simulation, one panel for each kernel size.

    Args:
      study: what was simulated.
      curves: of all simulations and sizes.

    Returns:
      A figure. Values that are not finite, as of weights that diverge, leave a gap.
    """
    simulations = sorted({curve.simulation for curve in curves})
    figure = Figure(figsize=(7.2, 2.35 * len(simulations) + 1.0), layout="constrained")
    grid = figure.subplots(
        len(simulations), len(study.sizes), squeeze=False, sharey=True, sharex="row"
    )
    for simulation, row in zip(simulations, grid, strict=True):
        for size, axes in zip(study.sizes, row, strict=True):
            panel = [c for c in curves if (c.simulation, c.size) == (simulation, size)]
            for curve, colour in zip(panel, _COLOURS * len(panel), strict=False):
                _draw_curve(axes, curve, colour)
            _finish(axes, f"$k = {size}$")
        unit = (
            "iteration" if simulation == "A" else f"presentation of {study.circuit.duration:g} ms"
        )
        row[len(row) // 2].set_xlabel(unit, fontsize=9)
        row[0].set_ylabel(r"$-\log\,\mathrm{SNR}$", fontsize=9)
        rule = _RULES[study.figure].get(simulation, "circuit, Eq. (8)")
        row[0].set_title(f"{simulation}   {rule}", loc="left", fontsize=9, weight="bold")
    figure.legend(
        handles=_legend(study),
        loc="outside lower center",
        ncols=len(study.gammas) + 2,
        fontsize=8,
        title=textwrap.fill(_WHY.format(who=_PASSING[study.figure], tau=study.circuit.tau), 120),
        title_fontsize=7.5,
        alignment="left",
    )
    return figure


def _draw_curve(axes: Axes, curve: Curve, colour: str) -> None:
    values = np.where(np.isfinite(curve.values), curve.values, np.nan)
    mean, spread = values.mean(axis=0), values.std(axis=0)
    band = (mean - spread, mean + spread)
    axes.fill_between(curve.iterations, *band, color=colour, alpha=0.25, lw=0)
    axes.plot(curve.iterations, mean, color=colour, lw=1.2)
    axes.axhline(curve.text_floor, color=colour, lw=0.8, ls=(0, (5, 3)))
    axes.axhline(curve.exact_floor, color=colour, lw=0.9, ls=(0, (1, 1.5)))


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9, loc="right")
    tidy(axes)
    axes.margins(x=0)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))


def _legend(study: Study) -> list[Line2D]:
    handles = [
        Line2D([], [], color=colour, label=rf"$\gamma = {gamma:g}$")
        for gamma, colour in zip(study.gammas, _COLOURS * len(study.gammas), strict=False)
    ]
    text = r"$2\log\frac{\gamma}{1+\gamma}$"
    handles.append(Line2D([], [], color="0.3", lw=0.8, ls=(0, (5, 3)), label=text))
    return [
        *handles,
        Line2D([], [], color="0.3", lw=0.9, ls=(0, (1, 1.5)), label="fixed point, exact"),
    ]


def tidy(axes: Axes) -> None:
    """The look of all panels.

    Args:
      axes: of a panel.
    """
    axes.grid(alpha=0.25, lw=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def to_bytes(figure: Figure, kind: str) -> bytes:
    """Renders a figure.

    Args:
      figure: to render.
      kind: ``'png'`` or ``'pdf'``.

    Returns:
      The content of a file.
    """
    file = io.BytesIO()
    figure.savefig(file, dpi=200, format=kind)
    return file.getvalue()


def to_csv(study: Study, curves: Sequence[Curve], heading: Sequence[str]) -> str:
    """Writes curves as a table, a row for each point.

    Args:
      study: what was simulated.
      curves: of all simulations and sizes.
      heading: lines in front of it, which begin with ``#``: how it was made.

    Returns:
      The content of a file; cells of numbers that are none, as of weights that diverge, are empty.
    """
    file = io.StringIO()
    file.writelines(f"# {line}\n" for line in heading)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for curve in curves:
        values = curve.values
        fixed = [study.figure, curve.simulation, curve.size, curve.gamma]
        fixed += [study.input_mean, len(values)]
        floors = [_text(floor) for floor in (curve.text_floor, curve.exact_floor)]
        with np.errstate(invalid="ignore"):  # -inf, of neurons that agree, has no deviation
            statistics = (values.mean(0), values.std(0), values.min(0), values.max(0))
        for iteration, *point in zip(curve.iterations, *statistics, strict=True):
            writer.writerow((*fixed, iteration, *map(_text, point), *floors))
    return file.getvalue()


def _text(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.5g}"
