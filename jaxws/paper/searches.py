"""Searches as published: searches.csv, by which final runs can be repeated without those before."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxws.paper.rows import Rates
from jaxws.system.atomic import read_plain

TABLE = "searches.csv"


class Score(NamedTuple):
    """What came out of a run of a search.

    Attributes:
      name: of the row.
      learning_rate: that it tried.
      weight_decay: likewise.
      epochs: of the run.
      state: one of :mod:`jaxws.paper.state`.
      validation_top1: on held-out training images after the last epoch, a part of 1; None if the
        run is not done.
      validation_loss: likewise.
      chosen: whether final runs use these rates.
      note: why it is not done, in a few words, which are not published; else empty.
    """

    name: str
    learning_rate: float
    weight_decay: float
    epochs: int
    state: str
    validation_top1: float | None = None
    validation_loss: float | None = None
    chosen: bool = False
    note: str = ""

    @property
    def rates(self) -> Rates:
        """Those that it tried."""
        return Rates(self.learning_rate, self.weight_decay)

    @property
    def line(self) -> dict[str, Any]:
        """It in searches.csv, by the names of the columns."""
        return {column: getattr(self, column) for column in COLUMNS}


COLUMNS = Score._fields[:-1]


def check_score(values: Mapping[str, Any]) -> Score:
    """Checks what a file says of a run.

    Args:
      values: by the names of :class:`Score`.

    Returns:
      The score.

    Raises:
      ValueError: what is wrong, in few words.

    Example:
      >>> check_score({"name": "table5/cifar10/lc", "learning_rate": "fast"})
      Traceback (most recent call last):
      ValueError: learning_rate is 'fast', not a positive number
    """
    for key, (is_good, what) in _EXPECTED.items():
        if not is_good(values.get(key)):
            raise ValueError(f"{key} is {values.get(key)!r}, not {what}")
    return Score(**values)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0


_A_TEXT = (lambda value: isinstance(value, str), "a text")
_EXPECTED = {
    "name": _A_TEXT,
    "learning_rate": (lambda value: _is_number(value) and value > 0, "a positive number"),
    "weight_decay": (_is_number, "a number"),
    "epochs": (lambda value: type(value) is int and value > 0, "a positive whole number"),
    "state": _A_TEXT,
    "validation_top1": (
        lambda value: value is None or (_is_number(value) and value <= 1),
        "a part of 1",
    ),
    "validation_loss": (lambda value: value is None or _is_number(value), "a number"),
    "chosen": (lambda value: isinstance(value, bool), "true or false"),
}


def searches_csv(lines: Iterable[Mapping[str, Any]]) -> str:
    """The text of searches.csv.

    Args:
      lines: see :attr:`Score.line`.

    Returns:
      Sorted lines, the same for the same runs.

    Example:
      >>> score = Score("table5/cifar10/lc", 1e-3, 1e-4, 200, "done", 0.8, 0.7, chosen=True)
      >>> print(searches_csv([score.line]), end="")
      name,learning_rate,weight_decay,epochs,state,validation_top1,validation_loss,chosen
      table5/cifar10/lc,0.001,0.0001,200,done,0.8,0.7,yes
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    order = ("name", "learning_rate", "weight_decay")
    for line in sorted(lines, key=lambda line: [line[key] for key in order]):
        writer.writerow({**line, "chosen": "yes" if line["chosen"] else ""})
    return text.getvalue()


def read_searches(file: Path) -> list[dict[str, Any]]:
    """Reads searches.csv.

    Args:
      file: its path.

    Returns:
      The lines.

    Raises:
      ValueError: it is something else; with the number of the line.
      OSError: it cannot be read.
    """
    number = 1
    try:
        rows = csv.reader(io.StringIO(read_plain(file).decode(), newline=""), strict=True)
        if (head := next(rows, [])) != list(COLUMNS):
            raise ValueError(f"expected the columns {','.join(COLUMNS)}, found {','.join(head)}")
        found = []
        for row in rows:
            number = rows.line_num
            if len(row) != len(COLUMNS):
                raise ValueError(f"expected {len(COLUMNS)} values, found {len(row)}")
            found.append(_score(dict(zip(COLUMNS, row, strict=True))).line)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"line {number} of {file}: {error}.") from error
    return found


def _score(texts: dict[str, str]) -> Score:
    """A line from its texts; raises ValueError."""
    numbers = {
        key: float(text) if text else None
        for key, text in texts.items()
        if key in ("learning_rate", "weight_decay", "validation_top1", "validation_loss")
    }
    known = {"epochs": int(texts["epochs"]), "chosen": texts["chosen"] == "yes"}
    return check_score(texts | numbers | known)


def merge_searches(
    old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Brings published searches up to date.

    Args:
      old: lines that are published.
      new: lines of runs that are here.

    Returns:
      For each row all lines of the new search, or those of the old one if it alone has a choice.

    Example:
      >>> old = Score("table5/cifar10/lc", 1e-3, 1e-4, 200, "done", 0.8, 0.7, chosen=True)
      >>> begun = old._replace(state="started", chosen=False)
      >>> merge_searches([old.line], [begun.line])[0]["state"]
      'done'
    """
    before, after = _by_row(old), _by_row(new)
    merged = before | after
    for name in before.keys() & after.keys():
        if _has_choice(before[name]) and not _has_choice(after[name]):
            merged[name] = before[name]
    return [line for lines in merged.values() for line in lines]


def _by_row(lines: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        rows.setdefault(line["name"], []).append(line)
    return rows


def _has_choice(lines: Iterable[Mapping[str, Any]]) -> bool:
    return any(line["chosen"] for line in lines)
