"""``python -m jaxws paper collect``: results of finished runs as CSV, to be kept or published."""

from __future__ import annotations

import argparse
import fcntl
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxws.commands.paper.selection import add_selection, selected
from jaxws.paper.choices import search_lines
from jaxws.paper.collected import read_results
from jaxws.paper.names import RunName
from jaxws.paper.publishing import merged
from jaxws.paper.results import Result
from jaxws.paper.search import searched_row
from jaxws.paper.searches import TABLE, merge_searches, read_searches, searches_csv
from jaxws.paper.state import DIVERGED, DONE
from jaxws.system.atomic import write_together
from jaxws.system.local_path import path_argument
from jaxws.system.text import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser."""
    add_selection(parser)
    parser.add_argument(
        "--out",
        type=path_argument,
        required=True,
        metavar="DIR",
        help="directory of the tables runs.csv, epochs.csv, snr.csv and searches.csv; results are"
        " added to those that are there, and no line of them changes",
    )


def run(args: argparse.Namespace) -> int:
    """Adds the results of runs that are over to published tables.

    Args:
      args: of :func:`add_arguments`.

    Returns:
      0.

    Raises:
      ValueError: there is nothing to collect, or a run is in the tables with other numbers.
    """
    names = selected(args)
    if not args.runs.is_dir():
        raise ValueError(f"--runs={args.runs}: there is no such directory.")
    found = read_results([args.runs], names)
    over = [result for result in found if result.state in (DONE, DIVERGED)]
    searches = _searches(args.runs, names)
    if not over and not searches:
        raise ValueError(
            f"nothing to collect: {args.runs} has no finished run among the {len(names)} that were"
            " asked for; python -m jaxws paper run makes them."
        )
    args.out.mkdir(parents=True, exist_ok=True)
    with _locked(args.out):
        texts = merged(args.out, over) | _merged_searches(args.out / TABLE, searches)
        write_together({args.out / name: text.encode() for name, text in texts.items()})
    _tell_left_out(found, over, len(names))
    if searches:
        say(f"{args.out / TABLE}: {len({line['name'] for line in searches})} searches")
    counts = Counter(result.state for result in over)
    told = ", ".join(f"{number} {state}" for state, number in counts.items())
    say(f"{args.out}: {len(over)} of {len(names)} runs ({told}), in {', '.join(sorted(texts))}")
    return 0


def _tell_left_out(found: list[Result], over: list[Result], wanted: int) -> None:
    kept = {result.name for result in over}
    for result in found:
        if result.name not in kept:
            say(f"left out: {result.name}: {result.state}, {result.note}", error=True)
    if missing := wanted - len(found):
        say(f"left out: {missing} runs of which there is nothing", error=True)


def _searches(runs: Path, names: Sequence[RunName]) -> list[dict[str, Any]]:
    """Of the rows of these runs."""
    rows = {str(searched_row(name)) for name in names}
    return [line for line in search_lines(runs) if line["name"] in rows]


def _merged_searches(file: Path, lines: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    if not lines:
        return {}
    old = read_searches(file) if file.exists() else []
    return {file.name: searches_csv(merge_searches(old, lines))}


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Two that add to the same tables would lose each other's lines."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
