"""Experiments and their rows: the paper's tables, its Fig. 6, and a few that go beyond it."""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import NamedTuple

from jaxws.paper.rows import PADS, Fields, row_fields
from jaxws.paper.scales import SCALES, TABLES, Scale
from jaxws.paper.tables import published

TITLES = MappingProxyType(
    {
        "table4": "Table 4, padding of 0",
        "table5": "Table 5, padding of 4",
        "table6": "Table 6, padding of 8",
        "table13": "Table 13, ImageNet",
        "fig6": "Fig. 6, -log SNR over training for three learning rates",
        "frequency": "Weight sharing from every batch to never",
        "images": "Accuracy against the number of training images",
        "pools": "Weights pooled over k x k grids, or over all positions",
        "modes": "Weight sharing at once, by sleep, and online",
        "untied": "LC networks that start as a trained convolutional one",
        "longer": "Training for 4 times as many epochs",
    }
)
LONGER = 4  # as often as many epochs, at the end of a row's name: -4x
# Fractions of the training images, in %; with all of them a row is that of Table 5.
PERCENT = (10, 25, 50)


class Row(NamedTuple):
    """What tells a row from others of its experiment.

    Attributes:
      name: within the experiment.
      fields: values by dotted name of the configuration's field.
      like: the row of a table whose rates it takes.
      images: the part of the scale's training images that it trains on.
      longer: it trains for so many times the epochs of the scale.
      starts_from: the row of Table 5 whose trained network, of the same seed, it starts from.
    """

    name: str
    fields: Fields
    like: str
    images: float = 1.0
    longer: int = 1
    starts_from: str | None = None


@cache
def experiment_rows(scale: str, experiment: str, dataset: str) -> tuple[Row, ...]:
    """The rows of an experiment.

    Args:
      scale: one of :data:`jaxws.paper.scales.SCALES`.
      experiment: one of its experiments.
      dataset: one of its data sets.

    Returns:
      The rows, in the paper's order; none where the experiment has no such data set.

    Example:
      >>> [row.name for row in experiment_rows("small", "table4", "digits")]
      ['conv', 'lc', 'lc-ws1', 'lc-ws10', 'lc-ws100']
    """
    found: Scale = SCALES[scale]
    if experiment in (*TABLES, "table13"):
        # Smaller scales have the rows of CIFAR-10, whatever they are run on.
        of = dataset if found.is_paper else "cifar10"
        names = [line.row for line in published() if (line.table, line.dataset) == (experiment, of)]
        pad = {"data.pad": PADS[experiment]} if experiment in PADS else {}
        return tuple(Row(name, pad | row_fields(name), like=name) for name in names)
    if dataset != "cifar10":
        return ()
    return _BEYOND[experiment]


def _sharing(every: int, like: str) -> Row:
    name = f"lc-ws{every}"
    return Row(name, _padded(name), like)


def _padded(row: str, **changes: object) -> dict[str, object]:
    return {"data.pad": PADS["table5"]} | row_fields(row) | changes


def _with(row: str, suffix: str, fields: Fields, **options: object) -> Row:
    options = {"like": row} | options
    return Row(f"{row}-{suffix}", _padded(row) | dict(fields), **options)  # type: ignore[arg-type]


_BEYOND: MappingProxyType[str, tuple[Row, ...]] = MappingProxyType(
    {
        "fig6": tuple(
            _with("lc-ws10", f"lr{text}", {"optimizer.learning_rate": float(text)})
            for text in ("5e-4", "5e-3", "5e-2")
        ),
        # The others, 1, 10, 100 and never, are rows of Table 5. Rates of the nearest of them.
        "frequency": (
            _sharing(2, "lc-ws1"),
            _sharing(5, "lc-ws10"),
            _sharing(20, "lc-ws10"),
            _sharing(50, "lc-ws100"),
        ),
        "images": tuple(
            _with(row, f"{percent}pct", {}, images=percent / 100)
            for percent in PERCENT
            for row in ("conv", "lc", "lc-4reps", "lc-ws1")
        ),
        "pools": (_with("lc-ws1", "global", {"sharing.pools": "global"}),),
        "modes": (
            _with("lc-ws1", "sleep", {"sharing.mode": "sleep"}),
            _with("lc-ws1", "online", {"sharing.mode": "online"}),
        ),
        "untied": (
            _with("lc", "from-conv", {}, starts_from="conv"),
            _with("lc-ws1", "from-conv", {}, starts_from="conv"),
        ),
        # Repetitions have more steps, not only more views: what do more steps alone change?
        "longer": tuple(
            _with(row, f"{LONGER}x", {}, longer=LONGER)
            for row in ("conv", "lc", "lc-ws1", "lc-ws10", "lc-ws100")
        ),
    }
)
