"""``python -m jaxws paper search``: rates for rows, found on held-out training images."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from jaxws.commands.arguments import add_json
from jaxws.commands.paper.execution import add_execution, execute, fields_given
from jaxws.commands.paper.selection import add_selection
from jaxws.paper.choices import search_command, write_choice
from jaxws.paper.jobs import Job
from jaxws.paper.names import RunName, select
from jaxws.paper.scales import SCALES
from jaxws.paper.search import candidates, searched_row
from jaxws.paper.search_runs import at_border, choose, search_job, search_scores
from jaxws.paper.searches import Score
from jaxws.records.summary import metric_text
from jaxws.system.terminal import print_table
from jaxws.system.text import say

_MORE = """\
Each learning rate and weight decay of a row's grid is trained on a part of the training images, in a
directory of RUNS/search/ROW, and scored on the rest after its last epoch. The best is the choice, in
RUNS/search/ROW/choice.json; `paper run --searched` trains with it. The same command goes on where it
was stopped, and brings choice.json up to date.
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
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Searches, and shows what has come out.

    Args:
      args: of :func:`add_arguments`.

    Returns:
      The exit status: 0; 2 where a run failed, 3 where all of a row have diverged, or 75 where a
      signal has stopped it.

    Raises:
      ValueError: names or fields that cannot be.
      OSError: a choice cannot be written.
    """
    rows = _rows(args)
    given = fields_given(args)
    with redirect_stdout(sys.stderr) if args.json else nullcontext():
        if args.dry_run:
            return show_plan(args, _jobs(args, rows, given))
        status = _train(args, rows, given)
    found = {row: _conclude(args, row) for row in rows}
    if args.json:
        print(json.dumps({str(row): _facts(scores) for row, scores in found.items()}, indent=1))
    else:
        for row, scores in found.items():
            _show(row, scores, args.runs)
    have_all_diverged = any(
        all(score.state == DIVERGED for score in scores) for scores in found.values()
    )
    return status or (DIVERGED_STATUS if have_all_diverged else 0)


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
        line = f"rows of {experiments} are not searched, they take the rates of {whose}"
        if len(others) == len(rows):
            raise ValueError(f"{line}: search for these.")
        say(f"{line}.", error=args.json)
    return [row for row in rows if row not in others]


def _jobs(args: argparse.Namespace, rows: Sequence[RunName], given: Fields) -> list[Job]:
    """The runs that are needed, as far as can be said now; those of this shard."""
    needed = {(score.name, score.rates) for row in rows for score in search_scores(args.runs, row)}
    own = shard(args, [each for row in rows for each in candidates(row)])
    return [
        search_job(each, args.runs, given)
        for each in own
        if (str(each.row), each.rates) in needed
    ]


def _train(args: argparse.Namespace, rows: Sequence[RunName], given: Fields) -> int:
    """Trains until no further run is needed; the exit status, for which divergence is no failure."""
    status, tried = 0, set[str]()
    while new := [job for job in _jobs(args, rows, given) if job.name not in tried]:
        tried |= {job.name for job in new}
        outcome = execute(args, new)
        if outcome.stopped:
            return outcome.status
        status = status or (outcome.status if outcome.failed or outcome.refused else 0)
    return status


def _conclude(args: argparse.Namespace, row: RunName) -> list[Score]:
    """Scores with the choice, which is written down."""
    scores = choose(search_scores(args.runs, row), allow_partial=args.allow_partial)
    write_choice(args.runs, row, scores)
    return scores


def _facts(scores: Sequence[Score]) -> dict[str, Any]:
    """What ``--json`` prints of a row."""
    return {
        "chosen": next((score.rates._asdict() for score in scores if score.chosen), None),
        "at_border": at_border(scores),
        "candidates": [score._asdict() for score in scores],
    }


def _show(row: RunName, scores: Sequence[Score], runs: Path) -> None:
    scale = SCALES[row.scale]
    mark = "" if scale.is_paper else f" (not the paper's: {scale.about})"
    lines = [
        (
            f"{score.learning_rate:g}",
            f"{score.weight_decay:g}",
            metric_text("top1", score.validation_top1, missing=""),
            metric_text("loss", score.validation_loss, missing=""),
            "chosen" if score.chosen else score.state if score.state != DONE else "",
        )
        for score in scores
    ]
    head = ("learning rate", "weight decay", "validation top-1", "loss", "")
    print_table(lines, title=f"{row}, {scores[0].epochs} epochs{mark}", head=head)
    for score in scores:
        if score.note and score.state in (OTHER, DAMAGED):
            say(f"{score.learning_rate:g}, {score.weight_decay:g}: {score.note}")
    if border := at_border(scores):
        say(f"chosen is {' and '.join(border)}: beyond it may be better.")
    ended = sum(score.state in ENDED for score in scores)
    if not any(score.chosen for score in scores):
        say(
            f"no choice: {ended} of {len(scores)} runs have ended; {search_command(row, runs)}"
            " goes on, --allow_partial chooses among those that are done."
            if ended < len(scores)
            else "no choice: all runs have diverged."
        )
    elif ended < len(scores):
        say(f"chosen among the {ended} of {len(scores)} runs that have ended.")
