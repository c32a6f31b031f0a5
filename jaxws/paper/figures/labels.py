"""What rows and data sets are called in figures, and with which colour and line a row is drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jaxws.paper.experiments import TITLES

DATASETS = MappingProxyType(
    {
        "cifar10": "CIFAR-10",
        "cifar100": "CIFAR-100",
        "tiny_imagenet": "TinyImageNet",
        "imagenet": "ImageNet",
        "digits": "digits",
    }
)
FIRST_CONV = "conv1-"  # what names of rows with a convolution as first layer begin with
# A hue for each way to regularise, from those of Okabe and Ito, which colour-blind people tell
# apart; within one, lightness and dashes.
_LINES = MappingProxyType(
    {
        "conv": ("#000000", "-"),
        "lc": ("#D55E00", "-"),
        "lc-4reps": ("#E0A000", "-"),
        "lc-8reps": ("#B07C00", "--"),
        "lc-16reps": ("#7A5600", ":"),
        "lc-ws1": ("#0B5394", "-"),
        "lc-ws10": ("#1F88C9", "--"),
        "lc-ws100": ("#56B4E9", ":"),
        "lc-ws1-global": ("#009E73", "-"),
        "lc-ws1-sleep": ("#CC79A7", "-"),
        "lc-ws1-online": ("#009E73", "-"),
        "lc-from-conv": ("#009E73", "-"),
        "lc-ws1-from-conv": ("#CC79A7", "--"),
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
      >>> row_label("lc-ws1-from-conv")
      'LC - ws(1), from conv'
    """
    first = row.startswith(FIRST_CONV)
    network, *parts = row.removeprefix(FIRST_CONV).split("-", 2)
    words = ["conv" if network == "conv" else "LC"]
    for index, part in enumerate(parts):
        said = re.sub(r"^(\d+)reps$", r"\1 reps", re.sub(r"^ws(\d+)$", r"ws(\1)", part))
        is_of_table = index == 0 and said != part
        words.append(f" - {said}" if is_of_table else ", " + re.sub(r"-(?=[a-z])", " ", said))
    return "".join(words) + (", 1st layer conv" if first else "")


def title_of(experiment: str, dataset: str) -> str:
    """What a figure of an experiment is called.

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


def row_line(row: str) -> Mapping[str, Any]:
    """How a row's line looks, the same in all figures.

    Args:
      row: its name.

    Returns:
      Options of ``Axes.plot``.

    Example:
      >>> row_line("conv")
      {'color': '#000000', 'linestyle': '-'}
    """
    colour, line = _LINES.get(row.removeprefix(FIRST_CONV), ("0.4", "-"))
    return {"color": colour, "linestyle": line}
