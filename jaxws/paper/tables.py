"""Tables 4 to 13 and appendix B of the paper as data: what was published, and with which rates.

``tables.csv`` beside this file has a line per row and data set: accuracies of Tables 4 to 6 and 13,
their spreads over five runs (Tables 7 to 9), and rates (Tables 10 to 12; of ImageNet, appendix
B.2). All are in %, as printed.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple

_FILE = Path(__file__).with_name("tables.csv")
# What the columns of a table come from.
SOURCES = {
    "table4": ("Table 4", "Table 7", "Table 10"),
    "table5": ("Table 5", "Table 8", "Table 11"),
    "table6": ("Table 6", "Table 9", "Table 12"),
    "table13": ("Table 13", None, "appendix B.2"),
}
# Runs behind a row, over which its spread is taken: Tables 4 to 6, and 13.
RUNS = {"table4": 5, "table5": 5, "table6": 5, "table13": 1}


class Published(NamedTuple):
    """A row of the paper for one data set.

    Attributes:
      table: ``'table4'``, ``'table5'``, ``'table6'`` or ``'table13'``.
      dataset: ``'cifar10'``, ``'cifar100'``, ``'tiny_imagenet'`` or ``'imagenet'``.
      row: such as ``'conv'``, ``'lc-4reps'``, ``'lc-ws10'`` or, with a convolution as first layer,
        ``'conv1-lc-ws1'``.
      top1: mean test accuracy after the last epoch, %.
      top1_diff: against conv of the same table and data set, as printed; None for conv.
      top5: of five guesses, %; None where the paper has none (CIFAR-10).
      top5_diff: as ``top1_diff``.
      top1_spread: largest minus smallest of the runs, %; None where there was one run.
      top5_spread: as ``top1_spread``.
      learning_rate: at the start.
      weight_decay: of AdamW.
    """

    table: str
    dataset: str
    row: str
    top1: float
    top1_diff: float | None
    top5: float | None
    top5_diff: float | None
    top1_spread: float | None
    top5_spread: float | None
    learning_rate: float
    weight_decay: float


@cache
def published() -> tuple[Published, ...]:
    """All rows, in the paper's order.

    Returns:
      72 of them: 21 for each data set of Tables 4 to 6, and 9 of Table 13.

    Example:
      >>> len(published())
      72
    """
    with _FILE.open(newline="", encoding="utf-8") as file:
        return tuple(_parse(line) for line in csv.DictReader(file))


def _parse(line: dict[str, str]) -> Published:
    texts = [line[name] for name in ("table", "dataset", "row")]
    numbers = [float(line[name]) if line[name] else None for name in Published._fields[3:]]
    return Published(*texts, *numbers)  # type: ignore[arg-type]


@cache
def find_published(table: str, dataset: str, row: str) -> Published | None:
    """One row.

    Args:
      table: see :class:`Published`.
      dataset: as well.
      row: as well.

    Returns:
      The row, or None: the paper has no such one.

    Example:
      >>> find_published("table5", "cifar10", "lc-ws1").top1
      87.4
      >>> find_published("table4", "cifar10", "lc-4reps") is None
      True
    """
    key = (table, dataset, row)
    return next((line for line in published() if line[:3] == key), None)
