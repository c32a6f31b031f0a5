"""``python -m jaxws paper ACTION ...`` runs the action in the file of its name beside this one."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

ACTIONS = {
    "list": "rows and runs: what the paper has, how long they take here, how far they are",
    "show": "one row: the command, the paper's numbers, ours, and how long it takes",
    "run": "trains rows, one run after another or beside each other; goes on where it was stopped",
    "search": "finds learning rates and weight decays on held-out training images",
    "report": "tables and figures of finished runs beside the paper's",
    "collect": "writes the results of finished runs as CSV, to be kept or published",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the actions and their arguments to a parser.

    Args:
      parser: of the command.
    """
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, what in ACTIONS.items():
        action = actions.add_parser(name, help=what, description=what, allow_abbrev=False)
        _module(name).add_arguments(action)


def run(args: argparse.Namespace) -> int:
    """Runs an action.

    Args:
      args: of :func:`add_arguments`.

    Returns:
      The exit status.

    Raises:
      ValueError: see the actions.
    """
    return _module(args.action).run(args)


def _module(name: str) -> Any:
    return importlib.import_module(_path(name))


def _path(name: str) -> str:
    # A module called run would take the place of this package's function.
    return f"jaxws.commands.paper.{'run_rows' if name == 'run' else name}"
