"""Arguments of actions that train: how many runs at once, which part of them, with which fields."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from jaxws.commands.parse_config import parse_config
from jaxws.config.fields import flat_fields
from jaxws.paper.costs import Costs
from jaxws.paper.jobs import Job, check_settable
from jaxws.paper.names import all_rows
from jaxws.paper.shards import Shard, parse_shard
from jaxws.paper.state import RunState


def add_execution(parser: argparse.ArgumentParser) -> None:
    """Adds ``--jobs``, ``--shard``, ``--retry`` and ``--config.FIELD``.

    Args:
      parser: of an action.
    """
    parser.set_defaults(overrides=[])
    parser.add_argument(
        "--jobs",
        type=_positive,
        metavar="N",
        help="runs at once (default: one on each GPU; on a CPU one on each core for small networks,"
        " or one on all cores)",
    )
    parser.add_argument(
        "--shard",
        type=_shard,
        default=Shard(0, 1),
        metavar="I/N",
        help="only this one of N shares of the runs, from 0/N, for machines that do not share RUNS",
    )
    parser.add_argument(
        "--retry", action="store_true", help="go on with runs that have diverged, too"
    )


def fields_given(overrides: Sequence[str]) -> Mapping[str, Any]:
    """What ``--config.FIELD=VALUE`` sets for all runs.

    Args:
      overrides: the arguments.

    Returns:
      Values by field.

    Raises:
      ValueError: a field that tells rows from each other, or a value that it cannot have.

    Example:
      >>> fields_given(["--config.data.path=/images"])
      {'data.path': '/images'}
    """
    names = [
        override.partition("=")[0].removeprefix("--config.").removeprefix("--noconfig.")
        for override in overrides
    ]
    check_settable(dict.fromkeys(names))
    # All rows have the same fields.
    config, _, _ = parse_config([f"--config=paper:{all_rows()[0]}", *overrides])
    fields = dict(flat_fields(config))
    return {name: fields[name] for name in names}


def predicted_seconds(costs: Costs, job: Job, state: RunState) -> float | None:
    """How long a run goes on, as far as that was measured on this machine.

    Args:
      costs: that are known.
      job: the run.
      state: how far it is.

    Returns:
      Seconds, or None.
    """
    cost = costs.cost(job.config)
    return None if cost is None else cost.seconds(job.config, state.epoch)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of runs, at least 1")
    return int(text)


def _shard(text: str) -> Shard:
    try:
        return parse_shard(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
