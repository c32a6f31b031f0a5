"""``python -m jaxws convergence``: Figs 4 and 5 of the paper, how dynamic weight sharing converges.

All files are written when all is computed; an interrupt leaves none.
"""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
import time
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, TimeElapsedColumn, TimeRemainingColumn

from jaxws.commands.arguments import add_out_directory, check_out_directory
from jaxws.commands.convergence_plot import draw, to_bytes, to_csv
from jaxws.dynamics.circuit import Circuit
from jaxws.dynamics.convergence import simulate
from jaxws.dynamics.schedules import COUNTERS, MOMENTS, Plasticity
from jaxws.dynamics.study import Curve, Study, check_study
from jaxws.records.provenance import versions
from jaxws.system.atomic import write_together
from jaxws.system.terminal import Bar
from jaxws.system.text import say

_STUDY, _CIRCUIT, _PLASTICITY = Study(), Circuit(), Plasticity()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser."""
    parser.add_argument("--figure", type=int, choices=(4, 5), required=True, help="of the paper")
    add_out_directory(parser)
    for name, kind, default, what in (
        ("runs", int, _STUDY.runs, "from different weights and inputs"),
        ("seed", int, _STUDY.seed, "of all runs"),
        ("neurons", int, _STUDY.neurons, "N"),
        ("input_mean", float, _STUDY.input_mean, "of x; the published code has 0"),
        ("presentations", int, _STUDY.presentations, "of B"),
        ("alpha", float, _CIRCUIT.alpha, "strength of inhibition"),
        ("momentum", float, _CIRCUIT.momentum, "of B"),
        ("onset", int, _PLASTICITY.onset, "k from which weights of B change"),
    ):
        text = f"{what} (default: %(default)s)"
        parser.add_argument(f"--{name}", type=kind, default=default, help=text)
    parser.add_argument("--iterations", type=int, help="of A (default: 2000, or 10000 for Fig. 5)")
    parser.add_argument("--sizes", type=int, nargs="+", default=_STUDY.sizes, metavar="K")
    parser.add_argument("--gammas", type=float, nargs="+", default=_STUDY.gammas, metavar="GAMMA")
    parser.add_argument(
        "--counter",
        choices=COUNTERS,
        default=_PLASTICITY.counter,
        help="what k of the learning rate of B counts (default: %(default)s, of Euler's method)",
    )
    parser.add_argument(
        "--plasticity",
        choices=MOMENTS,
        default=_PLASTICITY.moment,
        help="when weights of B change (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Simulates, draws and writes figN.png, figN.pdf and figN.csv.

    Args:
      args: of :func:`add_arguments`.

    Returns:
      0, or 1 if weights diverged, which a line says.

    Raises:
      ValueError: what is wrong with the arguments.
    """
    study = study_of(args)
    check_study(study)
    check_out_directory(args.out)
    begin = time.perf_counter()
    curves = compute(study)
    seconds = time.perf_counter() - begin
    for path in write(study, curves, args.out):
        say(path)
    print(f"{len(curves)} curves, {study.runs} runs each, in {seconds:.0f} s")
    lines = [line for curve in curves if (line := meaningless(curve))]
    for line in lines:
        print(line)
    return int(bool(lines))


def meaningless(curve: Curve) -> str:
    """Says which numbers of a curve mean nothing; they are gaps in the picture and the table.

    Args:
      curve: of :func:`compute`.

    Returns:
      A line; empty if all is well. -inf is well: all neurons agree.
    """
    bad = ~(curve.values < np.inf)
    what = []
    if bad.any():
        first = curve.iterations[np.argmax(bad.any(axis=0))]
        runs = f"{bad.any(axis=1).sum()} of {len(bad)} runs"
        what.append(f"weights of {runs} are not finite or 0 from k = {first} on: they diverged")
    if not np.isfinite([curve.text_floor, curve.exact_floor]).all():
        what.append("the fixed point cannot be computed")
    name = f"{curve.simulation}, {curve.size} x {curve.size}, gamma = {curve.gamma:g}"
    return f"{name}: {'; '.join(what)}." if what else ""


def study_of(args: argparse.Namespace) -> Study:
    """What the arguments ask for.

    Args:
      args: of :func:`add_arguments`.

    Returns:
      A study, not checked.
    """
    return Study(
        figure=args.figure,
        runs=args.runs,
        seed=args.seed,
        neurons=args.neurons,
        sizes=tuple(args.sizes),
        gammas=tuple(args.gammas),
        input_mean=args.input_mean,
        iterations=args.iterations,
        presentations=args.presentations,
        circuit=Circuit(alpha=args.alpha, momentum=args.momentum),
        plasticity=Plasticity(onset=args.onset, counter=args.counter, moment=args.plasticity),
    )


def compute(study: Study) -> list[Curve]:
    """Simulates all of a figure, with a bar on a terminal and lines elsewhere.

    Args:
      study: what to simulate.

    Returns:
      All curves.
    """
    parts = [(simulation, size) for simulation in "AB" for size in study.sizes]
    total = sum(study.length(simulation) for simulation, _ in parts)
    columns = ("{task.description}", BarColumn(), "{task.percentage:.0f} %")
    curves: list[Curve] = []
    with Bar(*columns, TimeElapsedColumn(), TimeRemainingColumn(), total=total) as bar:
        for simulation, size in parts:
            name = f"Fig. {study.figure}{simulation}, k = {size}"
            bar.update(description=name)
            begin = time.perf_counter()
            curves += simulate(study, simulation, size, lambda done: bar.update(advance=done))
            if not bar.on_terminal:
                seconds = time.perf_counter() - begin
                bar.print(f"{name}: {study.length(simulation)} iterations in {seconds:.1f} s")
    return curves


def write(study: Study, curves: list[Curve], out: Path) -> list[Path]:
    """Writes all files of a figure, each of them whole, or none.

    Args:
      study: what was simulated.
      curves: of :func:`compute`.
      out: directory.

    Returns:
      Their paths.
    """
    figure = draw(study, curves)
    name = f"fig{study.figure}"
    contents = {
        out / f"{name}.png": to_bytes(figure, "png"),
        out / f"{name}.pdf": to_bytes(figure, "pdf"),
        out / f"{name}.csv": to_csv(study, curves, _heading(study)).encode(),
    }
    write_together(contents)
    return list(contents)


def _heading(study: Study) -> list[str]:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    known = ", ".join(f"{name} {version}" for name, version in versions().items())
    return [
        f"python -m jaxws {shlex.join(sys.argv[1:])}",
        f"{now}; {known}",
        f"{study}",
    ]
