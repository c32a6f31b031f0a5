"""Rows and data sets as the paper writes them."""

from __future__ import annotations

import re

from jaxws.paper.names import RunName

DATASETS = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "tiny_imagenet": "TinyImageNet",
    "imagenet": "ImageNet",
}
_ROW = re.compile(r"(?P<first>conv1-)?(?P<net>conv|lc)(-(?P<reps>\d+)reps)?(-ws(?P<every>\d+))?")


def row_label(row: str, like: str) -> str:
    """A row as in the paper's tables.

    Args:
      row: its name.
      like: of the row of a table that it is a variant of, or the same.

    Returns:
      Text.

    Example:
      >>> row_label("lc-4reps", "lc-4reps"), row_label("lc-ws20", "lc-ws10")
      ('LC - 4 reps', 'LC - ws(20)')
      >>> row_label("conv1-lc-ws1", "conv1-lc-ws1")
      'LC - ws(1), 1st layer conv'
      >>> row_label("lc-ws10-lr5e-2", "lc-ws10")
      'LC - ws(10), lr5e-2'
    """
    is_variant = row.startswith(f"{like}-")
    found = _ROW.fullmatch(like if is_variant else row)
    assert found is not None
    text = "conv" if found["net"] == "conv" else "LC"
    text += f" - {found['reps']} reps" if found["reps"] else ""
    text += f" - ws({found['every']})" if found["every"] else ""
    text += ", 1st layer conv" if found["first"] else ""
    return text + (f", {row.removeprefix(like)[1:]}" if is_variant else "")


def label(name: RunName, table: str | None = None) -> str:
    """As :func:`row_label`, for a name.

    Args:
      name: of a row or run.
      table: the experiment that it is shown in; of another one's row, it is said where it is from.

    Returns:
      Text.

    Example:
      >>> from jaxws.paper.names import parse_name
      >>> label(parse_name("table5/cifar10/lc"), "pools")
      'LC (Table 5)'
    """
    text = row_label(name.row, name.find().like)
    elsewhere = table is not None and name.experiment != table
    return f"{text} ({name.experiment.replace('table', 'Table ')})" if elsewhere else text


def dataset_label(dataset: str) -> str:
    """A data set as people write it.

    Args:
      dataset: in names.

    Returns:
      Text.

    Example:
      >>> dataset_label("cifar10"), dataset_label("digits")
      ('CIFAR-10', 'digits')
    """
    return DATASETS.get(dataset, dataset)
