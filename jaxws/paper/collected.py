"""Results of one run after another, from directories of runs and from published tables, mixed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from jaxws.paper.csv_tables import Tell
from jaxws.paper.names import RunName, all_rows
from jaxws.paper.published_results import is_published, read_published
from jaxws.paper.results import Result, sort_key
from jaxws.paper.run_results import find_runs, read_result
from jaxws.paper.scales import SCALES
from jaxws.paper.state import DONE
from jaxws.system.text import say

_TO_STDERR = partial(say, error=True)
_DIGITS = 6  # to which published numbers are rounded


def read_results(
    sources: Sequence[Path],
    names: Sequence[RunName] | None = None,
    tell: Tell = _TO_STDERR,
) -> list[Result]:
    """Reads the results of runs.

    Args:
      sources: directories: of runs, where ``table5/cifar10/lc/seed0`` is in a directory of this
        name, or of published results, ``runs.csv`` and others, in it or in one for each scale. Of
        a run that is in several, the first one that is done counts, or else the first one.
      names: of the runs that are wanted, or of rows for runs of any seed; None for all.
      tell: takes what is wrong with the sources, a line of text each: lines that cannot be read,
        runs of which two sources say something else. By default it is printed to stderr.

    Returns:
      A result for each run of which there is something, done or not, in the order of the paper.

    Raises:
      ValueError: a source is no directory.

    Example:
      >>> import tempfile
      >>> read_results([Path(tempfile.mkdtemp())])
      []
    """
    found: dict[RunName, Result] = {}
    places: dict[RunName, str] = {}
    for source in sources:
        if not source.is_dir():
            raise ValueError(f"{source} is no directory: expected one of runs or of their results.")
        for result in _read(source, names, tell):
            before, place = found.get(result.name), _place(source, result)
            if before is None or (before.state != DONE and result.state == DONE):
                found[result.name], places[result.name] = result, place
            elif before.state == result.state == DONE and not same_numbers(before, result):
                tell(
                    f"{result.name} is in {places[result.name]} and, with other numbers, in"
                    f" {place}; the first one counts"
                )
    return sorted(found.values(), key=lambda result: sort_key(result.name))


def same_numbers(one: Result, other: Result) -> bool:
    """Whether two results of a run say the same, to the digits that are published.

    Args:
      one: a result.
      other: another one.

    Returns:
      A bool; where and when they were made is not looked at.
    """
    return _numbers(one) == _numbers(other)


def _place(source: Path, result: Result) -> str:
    """Where a result comes from, but not where that lies."""
    return source.name + result.source.removeprefix(str(source))


def _numbers(result: Result) -> tuple[object, ...]:
    rounded = {key: f"{value:.{_DIGITS}g}" for key, value in result.metrics.items()}
    return result.steps, rounded, dict(result.changes)


def _read(source: Path, names: Sequence[RunName] | None, tell: Tell) -> list[Result]:
    wanted = set(all_rows() if names is None else names)
    published = filter(is_published, (source, *(source / scale for scale in SCALES)))
    lines = [line for directory in published for line in read_published(directory, tell)]
    found = [line for line in lines if line.name in wanted or line.name.of_row() in wanted]
    rows = [name for name in wanted if name.seed is None]
    there = dict.fromkeys([*(wanted.difference(rows)), *find_runs(source, rows)])
    read = (read_result(source, name) for name in sorted(there, key=sort_key))
    return [*found, *(result for result in read if result is not None)]
