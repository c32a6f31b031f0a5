"""``python -m jaxws paper run``: trains rows of the paper, each run in a process of its own."""

from __future__ import annotations

import argparse

from jaxws.commands.paper.execution import add_execution, fields_given, share_of
from jaxws.commands.paper.selection import add_selection, selected
from jaxws.paper.execute import run_jobs
from jaxws.paper.jobs import make_jobs
from jaxws.paper.slots import make_slots, probe
from jaxws.system.text import say

_MORE = """\
--config.FIELD=VALUE changes a field for all runs, such as data.data_dir, model.dtype or mesh.data;
what tells rows from each other cannot be changed.

The same command goes on where it was stopped, killed or interrupted, and several of them, also on
machines that share the directory, divide the runs among themselves.

exit status:
  0   all runs are done
  2   a mistake, or a run failed or could not be started; lines say which and why
  3   a run has diverged
  75  stopped by SIGTERM or Ctrl-C; the same command goes on
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the action's arguments to a parser."""
    parser.epilog, parser.formatter_class = _MORE, argparse.RawDescriptionHelpFormatter
    add_selection(parser)
    add_execution(parser)


def run(args: argparse.Namespace) -> int:
    """Trains what is not done yet.

    Args:
      args: of :func:`add_arguments`.

    Returns:
      The exit status, see ``--help``.

    Raises:
      ValueError: names or fields that cannot be.
    """
    names = selected(args)
    jobs = share_of(make_jobs(names, args.runs, fields_given(args.overrides)), args.shard)
    slots = make_slots([job.config for job in jobs], probe(), args.jobs)
    outcome = run_jobs(jobs, slots, retry=args.retry)
    if outcome.stopped:
        say(f"{len(outcome.stopped)} runs are not done; the same command goes on.")
    return outcome.status
