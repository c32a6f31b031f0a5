"""``python -m jaxws paper run``: trains rows of the paper, each run in a process of its own."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from jaxws.commands.paper.cluster_arguments import add_cluster_arguments, submit
from jaxws.commands.paper.execution import add_execution, fields_given, predicted_seconds
from jaxws.commands.paper.forecast import show_forecast
from jaxws.commands.paper.selection import add_selection, selected
from jaxws.paper.choices import searched_rates
from jaxws.paper.costs import Costs
from jaxws.paper.execute import run_jobs
from jaxws.paper.jobs import Job, make_jobs
from jaxws.paper.names import RunName
from jaxws.paper.running import Ended
from jaxws.paper.slots import make_slots, probe
from jaxws.paper.state import RunState
from jaxws.system.text import say

_MORE = """\
--config.FIELD=VALUE changes a field for all runs, such as data.data_dir, model.dtype or mesh.data;
what tells rows from each other cannot be changed.

The same command goes on where it was stopped, killed or interrupted, and several of them, also on
machines that share the directory, divide the runs among themselves. What a run prints is in RUNS
beside its directory: NAME.log.

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
    rates = parser.add_mutually_exclusive_group()
    rates.add_argument(
        "--searched",
        action="store_true",
        help="with the rates that python -m jaxws paper search has found in RUNS",
    )
    rates.add_argument(
        "--searches",
        type=Path,
        metavar="PLACE",
        help="with those that it has found in another directory of runs, or that a directory of"
        " published results has in its searches.csv, or that such a file has",
    )
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="train nothing; tell runs, steps, time, memory and disk, after a short measurement of"
        " each kind of run that was not measured on this machine before",
    )
    add_cluster_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Trains what is not done yet.

    Args:
      args: of :func:`add_arguments`.

    Returns:
      The exit status, see ``--help``.

    Raises:
      ValueError: names or fields that cannot be.
    """
    names = args.shard.of(selected(args))
    place = args.runs if args.searched else args.searches
    rates = _usual if place is None else partial(searched_rates, place)
    jobs = make_jobs(names, args.runs, fields_given(args.overrides), rates)
    if (status := submit(args, names)) is not None:
        return status
    slots = make_slots([job.config for job in jobs], probe(), args.jobs)
    if args.dry_run:
        show_forecast(jobs, slots, args.runs)
        return 0
    costs = Costs()
    outcome = run_jobs(
        jobs,
        slots,
        retry=args.retry,
        seconds=partial(predicted_seconds, costs),
        ended=partial(_learn, costs),
    )
    if outcome.stopped:
        say(f"{len(outcome.stopped)} runs are not done; the same command goes on.")
    return outcome.status


def _usual(name: RunName) -> None:
    """No other rates than those of the row."""


def _learn(costs: Costs, job: Job, before: RunState, how: Ended) -> None:
    if before.run is None:  # it was done in one go
        costs.learn(job.config, how.seconds, how.memory)
