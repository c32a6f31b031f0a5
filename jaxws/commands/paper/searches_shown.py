"""What ``python -m jaxws paper search`` shows of a row's search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxws.paper.choices import search_command
from jaxws.paper.names import RunName
from jaxws.paper.scales import SCALES
from jaxws.paper.search_runs import ENDED, at_border
from jaxws.paper.searches import Score
from jaxws.paper.state import DIVERGED, DONE
from jaxws.records.summary import metric_text
from jaxws.system.terminal import print_table
from jaxws.system.text import say


def facts(scores: Sequence[Score]) -> dict[str, Any]:
    """A search as JSON.

    Args:
      scores: of the runs of a row's search.

    Returns:
      What can be written as JSON.

    Example:
      >>> facts([Score("table5/cifar10/lc", 1e-3, 1e-2, 200, "done", 0.8, 0.7)])["chosen"] is None
      True
    """
    return {
        "chosen": next((score.rates._asdict() for score in scores if score.chosen), None),
        "at_border": at_border(scores),
        "candidates": [score._asdict() for score in scores],
    }


def show(row: RunName, scores: Sequence[Score], runs: Path) -> None:
    """Prints a search as a table, and what is to be known about the choice.

    Args:
      row: that is searched.
      scores: of its runs.
      runs: directory of all runs.
    """
    scale = SCALES[row.scale]
    mark = "" if scale.is_paper else f"; not the paper's: {scale.about}"
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
    say(f"{row}, in runs of {scores[0].epochs} epochs{mark}")
    print_table(lines, head=head)
    for line in _notes(row, scores, runs):
        say(line)


def _notes(row: RunName, scores: Sequence[Score], runs: Path) -> Iterator[str]:
    for score in scores:
        if score.note and score.state != DIVERGED:
            rates = f"{score.learning_rate:g}, {score.weight_decay:g}"
            yield f"{rates} is {score.state}: {score.note}"
    if border := at_border(scores):
        yield f"The choice is {' and '.join(border)}: beyond it may be better."
    ended = sum(score.state in ENDED for score in scores)
    if any(score.chosen for score in scores):
        if ended < len(scores):
            yield f"Chosen among {ended} runs of {len(scores)}; the others have not ended."
    elif ended < len(scores):
        yield (
            f"No choice yet: {ended} of {len(scores)} runs have ended. {search_command(row, runs)}"
            " goes on; with --allow_partial it chooses among those that are done."
        )
    else:
        yield "No choice: all runs have diverged."
