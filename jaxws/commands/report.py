"""``python -m jaxws report``: makes the plots and the page of a run anew."""

from __future__ import annotations

import argparse

from jaxws.commands.arguments import add_trust, add_workdir, run_of
from jaxws.paper.matching import paper_rows
from jaxws.records.report import write_report
from jaxws.system.text import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser."""
    add_workdir(parser)
    add_trust(parser)


def run(args: argparse.Namespace) -> int:
    """Writes report.html and the plots into the run's directory.

    Args:
      args: of :func:`add_arguments`.

    Returns:
      0.

    Raises:
      ValueError: there is no run, or no epoch of it has ended.
    """
    past = run_of(args)
    say(write_report(past, paper_rows(past.config)))
    return 0
