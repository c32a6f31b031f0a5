"""Searches for learning rates and weight decays: which rows have one, and the runs that it is.

As in the paper (appendix B) each pair of a grid is trained on a part of the training images and
scored on the rest, on data sets with long runs for fewer epochs; the schedule shrinks with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from jaxws.paper.names import RunName
from jaxws.paper.rows import Rates
from jaxws.paper.scales import SCALES

SEARCH = "search"  # the directory of all searches, beside those of runs


class Candidate(NamedTuple):
    """One run of a search.

    Attributes:
      row: for which rates are searched.
      rates: that it tries.
    """

    row: RunName
    rates: Rates

    def workdir(self, runs: Path) -> Path:
        """Its directory.

        Args:
          runs: directory of all runs.

        Returns:
          The path.

        Example:
          >>> from jaxws.paper.names import parse_name
          >>> row = parse_name("small/table5/digits/lc")
          >>> Candidate(row, Rates(1e-3, 1e-2)).workdir(Path("runs")).as_posix()
          'runs/search/small/table5/digits/lc/lr0.001-wd0.01'
        """
        name = f"lr{self.rates.learning_rate:g}-wd{self.rates.weight_decay:g}"
        return search_directory(runs, self.row) / name

    @property
    def changes(self) -> dict[str, Any]:
        """In what it differs from a final run of the row: values by dotted name of the field."""
        return {
            **self.rates.fields,
            "epochs": SCALES[self.row.scale].search_epochs[self.row.dataset],
            "data.split": "tuning",
            # The last epoch counts, and a grid of large networks fills a disk.
            "checkpoint.keep_best": False,
        }


def search_directory(runs: Path, row: RunName) -> Path:
    """Where the search of a row lies.

    Args:
      runs: directory of all runs.
      row: see :func:`searched_row`.

    Returns:
      The path.
    """
    return runs / SEARCH / str(row.of_row())


def searched_row(name: RunName) -> RunName:
    """The row whose search gives the rates of a run.

    Args:
      name: of a row or run.

    Returns:
      For a row of a table itself; else the row of Table 5 whose rates it takes
      (:attr:`jaxws.paper.experiments.Row.like`).

    Example:
      >>> from jaxws.paper.names import parse_name
      >>> str(searched_row(parse_name("table6/cifar10/lc-4reps/seed3")))
      'table6/cifar10/lc-4reps'
      >>> str(searched_row(parse_name("frequency/cifar10/lc-ws20/seed3")))
      'table5/cifar10/lc-ws10'
    """
    if name.experiment.startswith("table"):
        return name.of_row()
    return name.of_row()._replace(experiment="table5", row=name.find().like)


def candidates(row: RunName) -> tuple[Candidate, ...]:
    """The runs of a row's search.

    Args:
      row: see :func:`searched_row`.

    Returns:
      One for each pair of its scale's grid, in its order.

    Example:
      >>> from jaxws.paper.names import parse_name
      >>> [each.rates.learning_rate for each in candidates(parse_name("table5/tiny_imagenet/lc"))]
      [0.001, 0.001, 0.0005, 0.0005]
    """
    pairs = SCALES[row.scale].grid(row.dataset, row.find().like)
    return tuple(Candidate(row.of_row(), rates) for rates in pairs)
