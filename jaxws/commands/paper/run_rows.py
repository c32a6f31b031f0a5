"""``python -m jaxws paper run``: trains rows of the paper, each run in a process of its own."""

from __future__ import annotations

import argparse
from typing import Any

from jaxws.commands.paper.cluster_arguments import add_cluster_arguments, submit
from jaxws.commands.paper.selection import add_selection, selected
from jaxws.commands.parse_config import parse_config
from jaxws.config.fields import flat_fields
from jaxws.paper.execute import run_jobs
from jaxws.paper.jobs import check_settable, make_jobs
from jaxws.paper.shards import Shard, parse_shard
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
    parser.set_defaults(overrides=[])
    parser.add_argument(
        "--jobs",
        type=_positive,
        metavar="N",
        help="runs at once (default: one on each GPU; on a CPU one on each core for small networks,"
        " or one on all cores)",
    )
    parser.add_argument(
        "--retry", action="store_true", help="go on with runs that have diverged, too"
    )
    parser.add_argument(
        "--shard",
        type=_shard,
        metavar="I/N",
        help="only this one of N shares of the runs, from 0/N, for machines that do not share RUNS",
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
    names = selected(args) if args.shard is None else args.shard.of(selected(args))
    jobs = make_jobs(names, args.runs, _fields_given(args.overrides))
    if (status := submit(args, names)) is not None:
        return status
    outcome = run_jobs(jobs, make_slots([job.config for job in jobs], probe(), args.jobs))
    if outcome.stopped:
        say(f"{len(outcome.stopped)} runs are not done; the same command goes on.")
    return outcome.status


def _fields_given(overrides: list[str]) -> dict[str, Any]:
    """Values of ``--config.FIELD=VALUE``, by field."""
    names = [
        override.partition("=")[0].removeprefix("--config.").removeprefix("--noconfig.")
        for override in overrides
    ]
    check_settable(dict.fromkeys(names))
    config, _, _ = parse_config(["--config=paper", *overrides])
    fields = dict(flat_fields(config))
    return {name: fields[name] for name in names}


def _shard(text: str) -> Shard:
    try:
        return parse_shard(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of runs, at least 1")
    return int(text)
