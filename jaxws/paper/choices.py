"""The choice of a search: ``choice.json`` beside its runs, and the rates that final runs take."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxws.paper.names import RunName, all_rows
from jaxws.paper.rows import Rates
from jaxws.paper.search import search_directory, searched_row
from jaxws.paper.searches import TABLE, Score, check_score, read_searches
from jaxws.system.atomic import read_plain, write_atomically
from jaxws.system.json_text import parse_json
from jaxws.system.text import one_line

CHOICE = "choice.json"


def chosen_rates(place: Path, name: RunName) -> Rates | None:
    """The rates that a search has found for a run.

    Args:
      place: a directory of runs with their searches, or one of published results with a
        searches.csv, or such a file.
      name: of a run or row.

    Returns:
      The rates of its row, or of the one whose rates it takes
      (:func:`jaxws.paper.search.searched_row`); None where that has no finished search.

    Raises:
      ValueError: what is there is damaged.
      OSError: it cannot be read.

    Example:
      >>> from jaxws.paper.names import parse_name
      >>> chosen_rates(Path("nowhere"), parse_name("table5/cifar10/lc/seed3")) is None
      True
    """
    row, table = searched_row(name), _table(place)
    scores = (
        read_choice(place, row)
        if table is None
        else [Score(**line) for line in read_searches(table) if line["name"] == str(row)]
    )
    return next((score.rates for score in scores if score.chosen), None)


def searched_rates(place: Path, name: RunName) -> Rates:
    """As :func:`chosen_rates`, for a run that must have them.

    Args:
      place: as there.
      name: likewise.

    Returns:
      The rates.

    Raises:
      ValueError: there are none; with the command that finds them.
    """
    if rates := chosen_rates(place, name):
        return rates
    row, table = searched_row(name), _table(place)
    whose = "" if row == name.of_row() else f", whose rates {name} takes,"
    remedy = (
        f"{search_command(row, place)} makes one"
        if table is None
        else "give the directory of runs that has one"
    )
    raise ValueError(
        f"{row}{whose} has no finished search in {table or place}: {remedy}; without --searched and"
        " --searches, runs take the usual rates."
    )


def _table(place: Path) -> Path | None:
    """The published searches that a place is or has; None for a directory of runs."""
    if place.suffix == ".csv":
        return place
    return place / TABLE if (place / TABLE).exists() else None


def write_choice(
    runs: Path, row: RunName, scores: Sequence[Score], made_with: Mapping[str, Sequence[str]]
) -> None:
    """Writes choice.json, of the same bytes whenever the runs are the same.

    Args:
      runs: directory of all runs.
      row: that was searched.
      scores: of its runs.
      made_with: versions of packages, and devices, by what they are.

    Raises:
      OSError: it cannot be written.
    """
    chosen = next((score.rates._asdict() for score in scores if score.chosen), None)
    content = {
        "chosen": chosen,
        "candidates": [score._asdict() for score in scores],
        "made_with": made_with,
    }
    directory = search_directory(runs, row)
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(directory / CHOICE, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_choice(runs: Path, row: RunName) -> list[Score]:
    """Reads what :func:`write_choice` wrote.

    Args:
      runs: directory of all runs.
      row: that was searched.

    Returns:
      The scores; none where there is no search.

    Raises:
      ValueError: the file is something else.
      OSError: it cannot be read.
    """
    file = search_directory(runs, row) / CHOICE
    try:
        return [check_score(score) for score in parse_json(read_plain(file))["candidates"]]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{file} is not what jaxws writes ({one_line(error)}): {search_command(row, runs)}"
            " writes it anew from the runs."
        ) from error


def search_lines(runs: Path) -> list[dict[str, Any]]:
    """The lines of searches.csv for all searches that there are.

    Args:
      runs: directory of all runs.

    Returns:
      See :attr:`jaxws.paper.searches.Score.line`; as ``python -m jaxws paper search`` has last
      left them.

    Raises:
      ValueError: a choice.json is damaged.
      OSError: one cannot be read.
    """
    rows = dict.fromkeys(map(searched_row, all_rows()))
    return [score.line for row in rows for score in read_choice(runs, row)]


def search_command(row: RunName, runs: Path) -> str:
    """The command that searches for a row's rates.

    Args:
      row: see :func:`jaxws.paper.search.searched_row`.
      runs: directory of all runs.

    Returns:
      What to type.
    """
    return shlex.join(["python", "-m", "jaxws", "paper", "search", str(row), f"--runs={runs}"])
