"""Arguments by which all actions choose runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from jaxws.paper.names import RunName, select
from jaxws.system.local_path import path_argument

RUNS = Path("runs/paper")


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
        help="rows or runs, such as table5/cifar10/lc-ws1 or table5/*/conv/seed0; the beginning of"
        " a name is enough; all of the scale if left out",
    )
    parser.add_argument(
        "--scale",
        metavar="SCALE",
        help="paper (default), small (digits, minutes) or reduced (CIFAR-10 at 16 pixels, hours)",
    )
    if seeds:
        parser.add_argument(
            "--seeds",
            type=_seeds,
            metavar="N,...",
            help="seeds of each row, such as 0,1,2 or 0-4 (default: as many as the scale has)",
        )
    parser.add_argument(
        "--runs",
        type=path_argument,
        default=RUNS,
        metavar="DIR",
        help=f"directory of all runs, each in one of its name (default: {RUNS})",
    )


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
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise argparse.ArgumentTypeError(f"{text!r}: expected seeds such as 0,1,2 or 0-4")
        seeds += range(int(first), int(last or first) + 1)
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text!r}: these are no seeds; expected such as 0-4")
    return tuple(dict.fromkeys(seeds))
