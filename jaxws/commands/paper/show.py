"""``python -m jaxws paper show NAME``: all that is known of a row, and the commands that run it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from ml_collections import ConfigDict

from jaxws.commands.paper.selection import RUNS, add_runs, check_runs
from jaxws.paper.configs import row_config
from jaxws.paper.experiments import TITLES
from jaxws.paper.hours import hours_here, measured
from jaxws.paper.names import RunName, parse_name, usual_seeds
from jaxws.paper.progress import look
from jaxws.paper.published_results import read_published
from jaxws.paper.results import Result
from jaxws.paper.row_text import change_lines, paper_lines, protocol_lines
from jaxws.paper.scales import SCALES
from jaxws.paper.state import DONE, MISSING
from jaxws.paper.stats import Stats, stats_of
from jaxws.system.text import duration_text, say

# Committed results, which a clone has; a directory for each scale.
PUBLISHED = Path(__file__).parents[3] / "docs" / "results" / "paper"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the action's arguments to a parser."""
    parser.add_argument("name", metavar="NAME", help="of a row, such as table5/cifar10/lc-ws1")
    add_runs(parser)


def run(args: argparse.Namespace) -> int:
    """Prints what is known of a row.

    Args:
      args: of :func:`add_arguments`.

    Returns:
      0.

    Raises:
      ValueError: there is no such row.
    """
    name = parse_name(args.name)
    check_runs(args)
    row, config = name.of_row(), row_config(name)
    scale = SCALES[row.scale]
    say(f"{row}: {TITLES[row.experiment]}")
    if not scale.is_paper:
        say(f"not the paper's: {scale.about}")
    sections = {
        "the paper": paper_lines(row),
        "protocol": protocol_lines(row, config),
        "commands": command_lines(name, config, args.runs),
        f"here, in {args.runs}": here_lines(name, args.runs),
        "published with jaxws": published_lines(row, PUBLISHED / row.scale),
        "time of a run": hours_lines(row),
        "changes of jaxws/config/fields.py": change_lines(config),
    }
    for title, lines in sections.items():
        if text := [f"  {line}" for line in lines]:
            say("\n".join([f"\n{title}", *text]))
    return 0


def command_lines(name: RunName, config: ConfigDict, runs: Path) -> Iterator[str]:
    """What trains a row.

    Args:
      name: of the row, or of the run that is meant.
      config: of the row.
      runs: directory of all runs.

    Yields:
      Commands.
    """
    own = "" if runs == RUNS else f" --runs={runs}"
    yield f"python -m jaxws paper run {name}{own}"
    one = name if name.seed is not None else name.with_seed(0)
    own = "" if runs == RUNS else f" --workdir={runs}/{one}"
    yield f"python train.py --config configs/paper.py:{one}{own}"
    if config.data.name != "digits":
        yield f"images: python -m jaxws prepare {config.data.name}, or --config.data.path=FOLDER"
    if first := one.starts_from():
        yield f"it starts from the weights of {first}; paper run trains that one before"


def here_lines(name: RunName, runs: Path) -> Iterator[str]:
    """What there is of the runs of a row in a directory of runs.

    Args:
      name: of the row, or of one of its runs.
      runs: the directory.

    Yields:
      Lines.
    """
    row = name.of_row()
    seeds = usual_seeds(row) if name.seed is None else [name.seed]
    [found] = look([row.with_seed(seed) for seed in seeds], runs)
    begun = [each for each in found.runs if each.state.kind != MISSING]
    if not begun:
        yield "nothing yet"
        return
    for each in begun:
        state, score = each.state, each.score("test_top1")
        line = f"seed{each.name.seed} {state.kind}"
        line += f", epoch {state.epoch:g} of {state.epochs}" if state.epochs else ""
        line += f", top-1 {score:.2f} %" if score is not None else ""
        line += f": {state.note}" if state.note else ""
        yield line
        for field, value in state.changes.items():
            yield f"  {field}={value!r} instead"
    if together := found.score("test_top1"):
        yield _score_text(together)


def published_lines(row: RunName, directory: Path) -> Iterator[str]:
    """What has been published of a row, see :mod:`jaxws.paper.published_results`.

    Args:
      row: its name.
      directory: of the results of its scale, which may be missing.

    Yields:
      Lines.
    """
    results = read_published(directory, partial(say, error=True))
    yield from result_lines(result for result in results if result.name.of_row() == row)


def result_lines(results: Iterable[Result]) -> Iterator[str]:
    """What results of runs of one row, from wherever they are, come to.

    Args:
      results: of runs with different seeds.

    Yields:
      Lines.

    Example:
      >>> list(result_lines([]))
      []
    """
    done = [result for result in results if result.state == DONE]
    score = stats_of(
        100 * result.metrics["test_top1"] for result in done if "test_top1" in result.metrics
    )
    if score:
        yield _score_text(score)
        yield from sorted({f"  {_facts_text(result.facts)}" for result in done})


def _facts_text(facts: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in facts.items() if value)


def hours_lines(row: RunName) -> Iterator[str]:
    """How long a run takes, where that was measured.

    Args:
      row: its name.

    Yields:
      Lines.
    """
    here, elsewhere = hours_here(row), measured(row)
    if here is not None:
        yield f"{duration_text(here)} on this machine, predicted from steps that were measured here"
    for each in elsewhere:
        yield f"{duration_text(each.hours)} on {each.hardware}"
        yield f"  {each.how}"
    if here is None:
        yield f"python -m jaxws paper run {row} --dry_run predicts it for this machine"


def _score_text(score: Stats) -> str:
    if score.n == 1:
        return f"top-1 {score.mean:.2f} %, the run that is done"
    return (
        f"top-1 {score.mean:.2f} %, mean of {score.n} runs that are done, spread {score.spread:.2f}"
    )
