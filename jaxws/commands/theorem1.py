"""``python -m jaxws theorem1``: the error of noisy weight sharing, against the bound of A.3."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from jaxws.commands.arguments import add_out_directory, check_out_directory
from jaxws.commands.convergence_plot import tidy, to_bytes
from jaxws.dynamics.noise_study import NoiseCurve, NoiseStudy, measure_noise
from jaxws.system.atomic import write_together
from jaxws.system.text import say

_STUDY = NoiseStudy()
_BOUND = (0, (5, 3))  # dashes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser."""
    add_out_directory(parser)
    for name in ("gamma", "neurons", "inputs", "trials", "iterations", "seed"):
        default = getattr(_STUDY, name)
        parser.add_argument(
            f"--{name}", type=type(default), default=default, help="(default: %(default)s)"
        )


def run(args: argparse.Namespace) -> int:
    """Measures, prints a table, writes theorem1.png and theorem1.pdf.

    Args:
      args: of :func:`add_arguments`.

    Returns:
      0, or 1 if a fit failed, which its row and a line say.

    Raises:
      ValueError: what is wrong with the arguments.
    """
    check_out_directory(args.out)
    chosen = {name: getattr(args, name) for name in NoiseStudy._fields if hasattr(args, name)}
    study = NoiseStudy(**chosen)
    begin = time.perf_counter()
    curves = measure_noise(study)
    figure = draw(study, curves)
    write_together(
        {args.out / f"theorem1.{kind}": to_bytes(figure, kind) for kind in ("png", "pdf")}
    )
    print("| sigma^2 | A of A / k + floor | floor | closed form | the proof's bound, last |")
    print("|---|---|---|---|---|")
    for c in curves:
        numbers = (c.noise_variance, c.slope, c.floor, c.exact_floor, c.bound[-1])
        print("| " + " | ".join(map(_cell, numbers)) + " |")
    failures = [curve for curve in curves if curve.failure]
    for c in failures:
        say(f"sigma^2 = {c.noise_variance:g}: the fit failed, {c.failure}.")
    say(f"{args.out / 'theorem1.png'}, .pdf, in {time.perf_counter() - begin:.0f} s")
    return int(bool(failures))


def _cell(number: float) -> str:
    return "fit failed" if np.isnan(number) else f"{number:.3g}"


def draw(study: NoiseStudy, curves: Sequence[NoiseCurve]) -> Figure:
    """Draws errors over iterations, and floors over sigma^2.

    Args:
      study: what was measured.
      curves: its results.

    Returns:
      A figure.
    """
    figure = Figure(figsize=(7.2, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = colormaps["viridis"](np.linspace(0, 0.88, len(curves)))
    for curve, colour in zip(curves, colours, strict=True):
        label = rf"$\sigma^2 = {curve.noise_variance:g}$"
        left.loglog(curve.iterations, curve.errors, color=colour, lw=1.2, label=label)
        left.loglog(curve.iterations, curve.bound, color=colour, lw=0.8, ls=_BOUND)
    quiet = curves[0]
    late = quiet.iterations[quiet.iterations >= study.iterations / 50]
    if quiet.slope > 0:  # not NaN, of a fit that failed
        label = r"$A / k$ fitted to $\sigma^2 = 0$"
        style = {"color": "0.3", "lw": 0.9, "ls": (0, (1, 1.5)), "label": label}
        left.loglog(late, quiet.slope / late, **style)
    left.plot([], [], color="0.3", lw=0.8, ls=_BOUND, label="proof's bound, by colour")
    left.set_xlabel("iteration $k$", fontsize=9)
    left.set_ylabel(r"$\mathrm{E}\,\|W - W^*\|^2 \,/\, \|W^*\|^2$", fontsize=9)
    left.legend(fontsize=7, loc="lower left", frameon=False)
    noisy = [curve for curve in curves if curve.noise_variance > 0]
    variances = np.array([curve.noise_variance for curve in noisy])
    fitted = [(c.noise_variance, c.floor) for c in noisy if c.floor > 0]
    if fitted:
        label = "floor of the fit $A / k$ + floor"
        right.loglog(*zip(*fitted, strict=True), "o", color="C0", ms=4, label=label)
    last = f"proof's bound at $k$ = {study.iterations:,}"
    right.loglog(variances, [c.exact_floor for c in noisy], color="0.3", lw=1, label="closed form")
    right.loglog(variances, [c.bound[-1] for c in noisy], "C1--", lw=1, label=last)
    right.set_xlabel(r"$\sigma^2$", fontsize=9)
    right.set_ylabel(r"floor, $/ \, \|W^*\|^2$", fontsize=9)
    right.legend(fontsize=7, frameon=False)
    for axes in (left, right):
        tidy(axes)
    return figure
