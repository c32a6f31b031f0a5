"""Writes results as published tables, and adds to those that are there: no line is ever lost."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jaxws.paper.csv_tables import Line, read_table, table_text
from jaxws.paper.names import RunName, parse_name
from jaxws.paper.published_results import (
    COLUMNS,
    EPOCHS,
    KEYS,
    METRICS,
    RUNS,
    SNR,
    SNR_POINTS,
    changes_text,
)
from jaxws.paper.results import FACTS, Result, sort_key
from jaxws.system.text import one_line

# Digits of numbers in each file; those of runs are enough to tell two runs apart.
_FORMS = {RUNS: ".6g", EPOCHS: ".5g", SNR: ".6g"}
# By what two lines of a run are the same: where, when and how fast it was made may differ.
_SAME = {RUNS: ("state", *METRICS, "steps", "changes")}


def has_curve(name: RunName) -> bool:
    """Whether the -log SNR of a run is published: of those that Fig. 6 and its like show.

    Args:
      name: of a run.

    Returns:
      A bool.

    Example:
      >>> has_curve(parse_name("table5/cifar10/lc-ws10/seed0"))
      True
      >>> has_curve(parse_name("table5/cifar10/lc-ws10/seed1"))
      False
    """
    in_table = name.experiment == "table5" and name.row.startswith("lc-ws") and name.seed == 0
    return in_table or name.experiment == "fig6"


def merged(directory: Path, results: Iterable[Result]) -> dict[str, str]:
    """Adds results to published tables.

    Args:
      directory: of the tables; may be missing.
      results: of runs that are over.

    Returns:
      The tables by name of the file, with all lines that are there; sorted. The same results make
      the same tables, also where they are in them already.

    Raises:
      ValueError: a run is there with other numbers, or what is there cannot be read.
    """
    results = list(results)
    new = {
        RUNS: [_run_line(result) for result in results],
        EPOCHS: [line for result in results for line in _epoch_lines(result)],
        SNR: [line for result in results for line in _snr_lines(result)],
    }
    texts = {name: _merge(directory / name, lines) for name, lines in new.items()}
    return {name: text for name, text in texts.items() if text}


def _run_line(result: Result) -> dict[str, str]:
    numbers = {key: format(value, _FORMS[RUNS]) for key, value in result.metrics.items()}
    return {
        "name": str(result.name),
        "state": result.state,
        "note": one_line(result.note),
        **{key: numbers.get(key, "") for key in METRICS},
        "steps": str(result.steps),
        "seconds": f"{result.seconds:.1f}",
        "changes": changes_text(result.changes),
        **{key: result.facts.get(key, "") for key in FACTS},
    }


def _epoch_lines(result: Result) -> Iterable[dict[str, str]]:
    for record in result.epochs:
        numbers = {key: record.get(key) for key in ("epoch", *METRICS)}
        texts = {
            key: "" if value is None else format(value, _FORMS[EPOCHS])
            for key, value in numbers.items()
        }
        yield {"name": str(result.name), **texts, "step": str(record["step"])}


def _snr_lines(result: Result) -> Iterable[dict[str, str]]:
    if not has_curve(result.name):
        return
    for step, layers in _thinned(result.snr, SNR_POINTS):
        numbers = {layer: format(value, _FORMS[SNR]) for layer, value in layers.items()}
        yield {"name": str(result.name), "step": str(step), **numbers}


def _thinned(points: Sequence[Any], most: int) -> Sequence[Any]:
    """At most so many, evenly spaced, the first and the last among them."""
    if len(points) <= most:
        return points
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def _merge(path: Path, new: Sequence[Mapping[str, str]]) -> str:
    """A file with lines added; empty if there are none at all."""
    keys = KEYS[path.name]
    lines: dict[tuple[str, ...], Mapping[str, str]] = {}
    for line in read_table(path, keys, _refuse):
        _check_known(line, path.name)
        lines[_key(line.cells, keys)] = line.cells
    for cells in new:
        there = lines.setdefault(_key(cells, keys), cells)
        _check_same(path, there, cells)
    if not lines:
        return ""
    known = [name for cells in lines.values() for name in cells if name not in keys]
    columns = COLUMNS.get(path.name) or (*keys, *sorted(dict.fromkeys(known), key=_natural))
    return table_text(columns, [cells for _, cells in sorted(lines.items(), key=_position)])


def _key(cells: Mapping[str, str], keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(cells[key] for key in keys)


def _position(item: tuple[tuple[str, ...], Any]) -> Any:
    (name, *numbers), _ = item
    return sort_key(parse_name(name)), [float(number) for number in numbers]


def _natural(layer: str) -> list[Any]:
    """Sorts layers as networks have them: those of block 10 after those of block 2."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", layer)]


def _check_known(line: Line, file: str) -> None:
    """Nothing may be lost that is not understood."""
    try:
        parse_name(line.cells["name"])
        for key in KEYS[file][1:]:
            float(line.cells[key])
    except ValueError as error:
        _refuse(f"{line.where}: {error}")
    if unknown := [name for name in line.cells if file in COLUMNS and name not in COLUMNS[file]]:
        _refuse(f"{line.where}: no column is called {unknown[0]!r}")


def _refuse(problem: str) -> NoReturn:
    raise ValueError(f"{problem}: repair it, or give another --out; nothing was written.")


def _check_same(path: Path, there: Mapping[str, str], here: Mapping[str, str]) -> None:
    for key in _SAME.get(path.name, here):
        if there.get(key, "") != here.get(key, ""):
            raise ValueError(
                f"{here['name']} is in {path} with other numbers ({key} is"
                f" {there.get(key) or 'empty'} there, {here.get(key) or 'empty'} in its run):"
                " remove its lines from the tables there to replace them, or give another --out;"
                " nothing was written."
            )
