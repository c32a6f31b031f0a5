"""What rows, experiments and data sets are called where people read of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from jaxws.paper.experiments import TITLES
from jaxws.paper.names import RunName
from jaxws.paper.rows import split_row

DATASETS: Mapping[str, str] = MappingProxyType(
    {
        "cifar10": "CIFAR-10",
        "cifar100": "CIFAR-100",
        "tiny_imagenet": "TinyImageNet",
        "imagenet": "ImageNet",
        "digits": "digits",
    }
)


def row_label(row: str) -> str:
    """A row as the paper's tables call it.

    Args:
      row: its name.

    Returns:
      A few words.

    Example:
      >>> [row_label(row) for row in ("conv", "lc-4reps", "conv1-lc-ws10")]
      ['conv', 'LC - 4 reps', 'LC - ws(10), 1st layer conv']
      >>> row_label("lc-ws1-from-conv"), row_label("lc-from-conv")
      ('LC - ws(1), from conv', 'LC, from conv')
    """
    found = split_row(row)
    assert found is not None, row
    reps, every, variant = found["reps"], found["every"], found["variant"]
    text = "conv" if found["net"] == "conv" else "LC"
    text += f" - {reps} reps" if reps else ""
    text += f" - ws({every})" if every else ""
    text += f", {re.sub(r'-(?=[a-z])', ' ', variant)}" if variant else ""
    return text + (", 1st layer conv" if found["first"] else "")


def title_of(experiment: str, dataset: str) -> str:
    """What a figure or section about an experiment is called.

    Args:
      experiment: such as ``'table5'``.
      dataset: such as ``'cifar10'``.

    Returns:
      Its title, and the data set.

    Example:
      >>> title_of("table5", "cifar10"), title_of("table13", "imagenet")
      ('Table 5, padding of 4: CIFAR-10', 'Table 13, ImageNet')
    """
    title, name = TITLES[experiment], DATASETS[dataset]
    return title if name in title else f"{title}: {name}"


def name_label(name: RunName, experiment: str) -> str:
    """A row where it is shown with others.

    Args:
      name: of the row.
      experiment: in whose table it is shown.

    Returns:
      As :func:`row_label`; of a row from another table, with where it is from.

    Example:
      >>> from jaxws.paper.names import parse_name
      >>> name_label(parse_name("table5/cifar10/lc"), "pools")
      'LC (Table 5)'
    """
    elsewhere = (
        "" if name.experiment == experiment else f" ({TITLES[name.experiment].split(',')[0]})"
    )
    return row_label(name.row) + elsewhere
