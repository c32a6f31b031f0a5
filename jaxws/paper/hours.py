"""How long runs take: on hardware that somebody has measured, and on this machine.

``hours.csv`` beside this file has a line per hardware and rows (``*`` and ``[456]`` as in names of
files). Only what was measured stands there, or what follows from a step that was.
"""

from __future__ import annotations

import csv
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jaxws.paper.costs import known_hours
from jaxws.paper.names import RunName

_FILE = Path(__file__).with_name("hours.csv")


class Measured(NamedTuple):
    """How long a run takes somewhere.

    Attributes:
      hardware: in words.
      scale: one of :data:`jaxws.paper.scales.SCALES`.
      rows: a pattern of names of rows, without the scale.
      seconds: that a run takes.
      how: that is known, in words.
    """

    hardware: str
    scale: str
    rows: str
    seconds: float
    how: str

    @property
    def hours(self) -> float:
        """What a run takes, in hours."""
        return self.seconds / 3600


@cache
def all_measured() -> tuple[Measured, ...]:
    """All lines of ``hours.csv``.

    Returns:
      The lines, in their order.

    Example:
      >>> all_measured()[0].rows
      'table[456]/cifar10/lc-ws1'
    """
    with _FILE.open(newline="", encoding="utf-8") as file:
        return tuple(_parse(line) for line in csv.DictReader(file))


def _parse(line: dict[str, str]) -> Measured:
    hardware, scale, rows, seconds, how = line.values()
    return Measured(hardware, scale, rows, float(seconds), how)


def measured(name: RunName) -> list[Measured]:
    """How long a run of a row takes, wherever that is known.

    Args:
      name: of the row, or of one of its runs.

    Returns:
      What fits; none where nobody has measured.

    Example:
      >>> from jaxws.paper.names import parse_name
      >>> [round(each.hours, 1) for each in measured(parse_name("table5/cifar10/lc-ws1"))]
      [5.7]
      >>> measured(parse_name("table13/imagenet/lc"))
      []
    """
    row = "/".join(name[1:4])
    return [
        each for each in all_measured() if each.scale == name.scale and fnmatchcase(row, each.rows)
    ]


def hours_here(name: RunName) -> float | None:
    """How long a run takes on this machine, as predicted from measurements here.

    Args:
      name: of a run; of a row, for any of its runs.

    Returns:
      Hours; None where nothing was measured here.
    """
    return known_hours(name)
