"""``python -m jaxws paper search``: rates for rows, found on held-out training images."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from functools import partial
from typing import Any

from jaxws.commands.arguments import add_json
from jaxws.commands.paper.execution import add_execution, fields_given, predicted_seconds
from jaxws.commands.paper.forecast import show_forecast
from jaxws.commands.paper.searches_shown import facts, show
from jaxws.commands.paper.selection import add_selection
from jaxws.paper.choices import write_choice
from jaxws.paper.costs import Costs
from jaxws.paper.execute import run_jobs
from jaxws.paper.jobs import Job
from jaxws.paper.names import RunName, select
from jaxws.paper.running import DIVERGED_STATUS
from jaxws.paper.scales import SCALES
from jaxws.paper.search import candidates, searched_row
from jaxws.paper.search_runs import choose, search_job, search_scores
from jaxws.paper.searches import Score
from jaxws.paper.slots import make_slots, probe
from jaxws.paper.state import DIVERGED
from jaxws.system.text import say

_MORE = """\
Each pair of a row's grid is trained on a part of the training images, in a directory of
RUNS/search/ROW, and scored on the rest after its last epoch. The best is the choice, in
RUNS/search/ROW/choice.json, with which `paper run --searched` trains. The same command goes on
where it was stopped, and brings choice.json up to date; several of them divide the runs among
themselves.

--config.FIELD=VALUE changes a field for all runs, such as data.path; what tells rows from each
other cannot be changed.

exit status:
  0   no run failed; all rows have a choice, if all of their runs were asked for
  2   a mistake, or a run failed or could not be started; lines say which and why
  3   all runs of a row have diverged
  75  stopped by SIGTERM or Ctrl-C; the same command goes on
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the action's arguments to a parser."""
    parser.epilog, parser.formatter_class = _MORE, argparse.RawDescriptionHelpFormatter
    add_selection(parser, seeds=False)
    add_execution(parser)
    parser.add_argument(
        "--allow_partial",
        action="store_true",
        help="choose among the runs that are done, though others are not",
    )
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="train nothing; tell runs, steps, time, memory and disk",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Searches, and shows what has come out.

    Args:
      args: of :func:`add_arguments`.

    Returns:
      The exit status, see ``--help``.

    Raises:
      ValueError: names or fields that cannot be.
      OSError: a choice cannot be written.
    """
    rows, given = _rows(args), fields_given(args.overrides)
    # What is told of runs is not part of the JSON.
    with redirect_stdout(sys.stderr) if args.json else nullcontext():
        if args.dry_run:
            _forecast(args, rows, given)
            status, found = 0, {row: search_scores(args.runs, row)[0] for row in rows}
        else:
            status = _train(args, rows, given)
            found = {row: _conclude(args, row) for row in rows}
    if args.json:
        print(json.dumps({str(row): facts(scores) for row, scores in found.items()}, indent=1))
    else:
        for row, scores in found.items():
            show(row, scores, args.runs)
    return status or (DIVERGED_STATUS if any(map(_have_diverged, found.values())) else 0)


def _rows(args: argparse.Namespace) -> list[RunName]:
    """The rows that are searched; says which of the chosen ones are not."""
    names = select(args.names, args.scale, seeds=[0])
    if seeded := [name for name in names if name.seed]:
        row = seeded[0].of_row()
        raise ValueError(f"{seeded[0]}: a row is searched with seed 0, for all seeds: give {row}.")
    rows = [name.of_row() for name in names]
    if others := [row for row in rows if searched_row(row) != row]:
        whose = ", ".join(dict.fromkeys(str(searched_row(row)) for row in others))
        experiments = ", ".join(dict.fromkeys(row.experiment for row in others))
        line = f"rows of {experiments} are not searched: they take the rates of {whose}"
        if len(others) == len(rows):
            raise ValueError(f"{line}; search for these.")
        say(f"{line}.", error=args.json)
    return [row for row in rows if row not in others]


def _jobs(args: argparse.Namespace, rows: Sequence[RunName], given: Mapping[str, Any]) -> list[Job]:
    """The runs that are needed, as far as can be said now; those of this shard."""
    scores = [score for row in rows for score in search_scores(args.runs, row)[0]]
    needed = {(score.name, score.rates) for score in scores}
    every = [each for row in rows for each in candidates(row)]
    return [
        search_job(each, args.runs, given)
        for each in every[args.shard.index :: args.shard.count]
        if (str(each.row), each.rates) in needed
    ]


def _forecast(args: argparse.Namespace, rows: Sequence[RunName], given: Mapping[str, Any]) -> None:
    jobs = _jobs(args, rows, given)
    show_forecast(jobs, make_slots([job.config for job in jobs], probe(), args.jobs), args.runs)
    if any(SCALES[row.scale].decays_last for row in rows):
        say("Runs at another weight decay follow, for the best learning rate of each row.")


def _train(args: argparse.Namespace, rows: Sequence[RunName], given: Mapping[str, Any]) -> int:
    """Trains until no further run is needed; for the status, divergence is no failure."""
    status, tried, costs = 0, set[str](), Costs()
    while new := [job for job in _jobs(args, rows, given) if job.name not in tried]:
        tried |= {job.name for job in new}
        slots = make_slots([job.config for job in new], probe(), args.jobs)
        outcome = run_jobs(new, slots, retry=args.retry, seconds=partial(predicted_seconds, costs))
        if outcome.stopped:
            return outcome.status
        if outcome.failed or outcome.refused:
            status = outcome.status
    return status


def _conclude(args: argparse.Namespace, row: RunName) -> list[Score]:
    """The scores of a row's runs with the choice, which is written down."""
    scores, made_with = search_scores(args.runs, row)
    scores = choose(scores, allow_partial=args.allow_partial)
    write_choice(args.runs, row, scores, made_with)
    return scores


def _have_diverged(scores: Sequence[Score]) -> bool:
    return all(score.state == DIVERGED for score in scores)
