"""Arguments by which all actions choose runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from jaxws.paper.names import RunName, select
from jaxws.system.local_path import path_argument

RUNS = Path("runs/paper")
_MOST_SEEDS = 1000  # more are a slip of the hand


def add_selection(parser: argparse.ArgumentParser, *, seeds: bool = True) -> None:
    """Adds names, ``--scale``, ``--seeds`` and ``--runs``.

    Args:
      parser: of an action.
      seeds: whether it is about runs; False for one about rows.
    """
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="rows or runs, such as table5/cifar10/lc-ws1 or 'table5/*/conv/seed0'; the beginning"
        " of a name is enough; all of the scale if left out",
    )
    parser.add_argument(
        "--scale",
        metavar="SCALE",
        help="paper (default), small (digits, minutes) or reduced (part of CIFAR-10 at 24 pixels)",
    )
    if seeds:
        parser.add_argument(
            "--seeds",
            type=_seeds,
            metavar="N,...",
            help="seeds of each row, such as 0,1,2 or 0-4 (default: as many as the scale has)",
        )
    add_runs(parser)


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Adds ``--runs``.

    Args:
      parser: of an action.
    """
    parser.add_argument(
        "--runs",
        type=path_argument,
        default=RUNS,
        metavar="DIR",
        help=f"directory of all runs, each in one of its name (default: {RUNS})",
    )


def check_runs(args: argparse.Namespace) -> None:
    """Sees to it that runs can be looked for; where there is none yet, there need be no directory.

    Args:
      args: with that of :func:`add_runs`.

    Raises:
      ValueError: ``--runs`` is no directory.
    """
    if args.runs.exists() and not args.runs.is_dir():
        raise ValueError(f"--runs={args.runs}: expected a directory, this is a file.")


def selected(args: argparse.Namespace) -> tuple[RunName, ...]:
    """The runs that were chosen.

    Args:
      args: with those of :func:`add_selection`.

    Returns:
      Their names, with seeds.

    Raises:
      ValueError: nothing is called so.
    """
    return select(args.names, args.scale, args.seeds)


def _seeds(text: str) -> tuple[int, ...]:
    """Reads ``'0,2'`` or ``'0-4'``."""
    seeds: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise argparse.ArgumentTypeError(f"{text!r}: expected seeds such as 0,1,2 or 0-4")
        found = range(int(first), int(last or first) + 1)
        if not 1 <= len(found) <= _MOST_SEEDS or int(found[-1]) >= 10**9:
            raise argparse.ArgumentTypeError(
                f"{text!r}: expected seeds below 10^9, the smaller one first, such as 0-4"
            )
        seeds |= dict.fromkeys(found)
    return tuple(seeds)
