"""At what size the paper's rows are run: as published, or smaller, for machines without a GPU.

A scale changes data, network and epochs alike for every row, so that rows can be compared with each
other; what comes out of a smaller one is not the paper's, and is marked so wherever it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from jaxws.paper.rows import DATASETS, SEARCH_EPOCHS, Fields, Rates, grid, row_fields

TABLES = ("table4", "table5", "table6")


class Scale(NamedTuple):
    """A size of all experiments.

    Attributes:
      name: ``'paper'``, or what names of its runs begin with.
      about: what it is, in a line.
      datasets: what their runs have in common, by the name that runs have.
      experiments: that there are.
      seeds: how many runs a row has by default.
      rates: of rows by name; for others, of networks with ``model.connectivity`` ``'conv'`` and
        ``'local'``. None for the published ones.
      grids: rates to search, by connectivity; None for the paper's.
      search_epochs: of the runs of a search, by data set.
      decays_last: search the learning rates at the first weight decay of the grid, and then other
        decays at the best of them only; not the whole grid, as the paper did.
    """

    name: str
    about: str
    datasets: Mapping[str, Fields]
    experiments: tuple[str, ...]
    seeds: int
    rates: Mapping[str, Rates] | None
    grids: Mapping[str, tuple[Rates, ...]] | None
    search_epochs: Mapping[str, int]
    decays_last: bool = False

    @property
    def is_paper(self) -> bool:
        """Whether its results may be held against the paper's numbers."""
        return self.name == "paper"

    def grid(self, dataset: str, row: str) -> tuple[Rates, ...]:
        """Rates to search for a row.

        Args:
          dataset: one of ``datasets``.
          row: of a table, see :func:`jaxws.paper.rows.row_fields`.

        Returns:
          All combinations.

        Example:
          >>> len(SCALES["paper"].grid("cifar10", "lc"))
          8
        """
        if self.grids is None:
            return grid(dataset, row)
        return self.grids[row_fields(row)["model.connectivity"]]


def _grid(rates: tuple[float, ...], decays: tuple[float, ...]) -> tuple[Rates, ...]:
    return tuple(Rates(rate, decay) for rate in rates for decay in decays)


# On CIFAR-10 alone.
_CIFAR = ("fig6", "frequency", "images", "pools", "modes", "untied")
# Runs of minutes need not be scored, nor kept, after each of their epochs.
_RESNET_8 = {
    "model.depth": 8,
    "model.width": 8,
    "batch_size": 64,
    "evaluate_every": 5,
    "checkpoint.keep": 1,
    "checkpoint.keep_best": False,
    "checkpoint.every_steps": 500,
}
_DIGITS = {**_RESNET_8, "epochs": 20, "data.name": "digits", "data.flip": False}
_SMALL_CIFAR = {
    **_RESNET_8,
    "model.width": 16,
    "epochs": 30,
    "evaluate_every": 10,
    "eval_batch_size": 1000,
    "data.name": "cifar10",
    "data.image_size": 24,
    "data.train_fraction": 0.1,
}

SCALES: Mapping[str, Scale] = MappingProxyType(
    {
        "paper": Scale(
            name="paper",
            about="as published",
            datasets=DATASETS,
            experiments=(*TABLES, "table13", *_CIFAR),
            seeds=5,
            rates=None,
            grids=None,
            search_epochs=SEARCH_EPOCHS,
        ),
        "small": Scale(
            name="small",
            about="ResNet-8 of width 8 on the built-in digits, 20 epochs in batches of 64",
            datasets={"digits": _DIGITS},
            experiments=TABLES,
            seeds=5,
            rates={"conv": Rates(1e-2, 1e-2), "local": Rates(3e-3, 1e-2)},
            grids={
                "conv": _grid((3e-2, 1e-2, 3e-3), (1e-2, 1e-4)),
                "local": _grid((5e-3, 3e-3, 1e-3), (1e-2, 1e-4)),
            },
            search_epochs={"digits": 10},
        ),
        "reduced": Scale(
            name="reduced",
            about="ResNet-8 of width 16 on 5,000 images of CIFAR-10 at 24x24 pixels, 30 epochs in"
            " batches of 64",
            datasets={"cifar10": _SMALL_CIFAR},
            experiments=("table5", *_CIFAR, "longer"),
            seeds=3,
            rates={  # searched: docs/results/paper/reduced/searches.csv
                "conv": Rates(5e-3, 1e-2),
                "lc": Rates(1e-3, 1e-2),
                "lc-8reps": Rates(5e-4, 1e-4),
                "lc-16reps": Rates(5e-4, 1e-2),
                "lc-ws1": Rates(2e-3, 1e-2),
                "lc-ws10": Rates(2e-3, 1e-4),
                "lc-ws100": Rates(5e-4, 1e-4),
                "local": Rates(1e-3, 1e-2),  # others
            },
            grids={
                "conv": _grid((5e-2, 1e-2, 5e-3), (1e-2, 1e-4)),
                "local": _grid((4e-3, 2e-3, 1e-3, 5e-4), (1e-2, 1e-4)),
            },
            search_epochs={"cifar10": 10},
            decays_last=True,
        ),
    }
)
