"""The rows of all tables as changes of a configuration: what each network and data set differs in.

A row's name says what it is: ``conv`` or ``lc``, with ``-4reps`` (views of each image), ``-ws10``
(weights shared after every tenth batch); ``conv1-lc`` has a convolution as its first layer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxws.config.fields import base_config

Fields = Mapping[str, Any]

PADS = MappingProxyType({"table4": 0, "table5": 4, "table6": 8})
# What the runs on a data set have in common: networks, batches, epochs (appendix B).
_IMAGENET = {
    "batch_size": 256,
    "eval_batch_size": 256,
    "model.architecture": "resnet18",
    "model.width": 32,
    "data.name": "imagenet2012",
    "data.mean_std": "imagenet",
    "data.crop_size": 224,
    "data.pad": 0,
}
_TINY_IMAGENET = {
    "data.name": "tiny_imagenet",
    "data.mean_std": "imagenet",
    "data.crop_size": 48,
    "data.flip": False,
}
DATASETS: Mapping[str, Fields] = MappingProxyType(
    {
        "cifar10": {"data.name": "cifar10"},
        "cifar100": {"data.name": "cifar100"},
        "tiny_imagenet": _TINY_IMAGENET,
        "imagenet": _IMAGENET,
    }
)
# Epochs of the final runs are 200; of searches on a compressed schedule, these (appendix B).
SEARCH_EPOCHS = MappingProxyType(
    {"cifar10": 200, "cifar100": 200, "tiny_imagenet": 50, "imagenet": 20}
)
FIRST_CONV = "conv1-"  # what names of rows with a convolution as first layer begin with
_ROW = re.compile(
    rf"(?P<first>{FIRST_CONV})?(?P<net>conv|lc)(-(?P<reps>\d+)reps)?(-ws(?P<every>\d+))?"
    r"(-(?P<variant>.+))?"
)


class Rates(NamedTuple):
    """What AdamW is told."""

    learning_rate: float
    weight_decay: float

    @property
    def fields(self) -> dict[str, float]:
        """As fields of a configuration."""
        return {f"optimizer.{name}": value for name, value in self._asdict().items()}


def split_row(row: str) -> dict[str, str | None] | None:
    """The parts of a row's name.

    Args:
      row: such as ``'lc-ws10'``, or with what a row beyond the tables varies, ``'lc-ws1-global'``.

    Returns:
      ``first``, ``net``, ``reps``, ``every`` and ``variant``; None of those that it has not. None
      where it is no such name.

    Example:
      >>> split_row("lc-ws1-global")["variant"]
      'global'
    """
    found = _ROW.fullmatch(row)
    return found.groupdict() if found else None


def row_fields(row: str) -> dict[str, Any]:
    """What a row's name says of its configuration.

    Args:
      row: such as ``'lc-ws10'``.

    Returns:
      Values by dotted name of the field.

    Raises:
      ValueError: no row is called so.

    Example:
      >>> row_fields("lc-ws10")
      {'model.connectivity': 'local', 'sharing.every': 10}
      >>> row_fields("lc-16reps")
      {'model.connectivity': 'local', 'data.n_reps': 16}
    """
    found = split_row(row)
    if not found or found["variant"]:
        raise ValueError(f"row {row!r}: expected a name such as conv, lc, lc-4reps or lc-ws10.")
    fields: dict[str, Any] = {
        "model.connectivity": "conv" if found["net"] == "conv" else "local",
    }
    if found["first"]:
        fields["model.first_layer_conv"] = True
    if found["reps"]:
        fields["data.n_reps"] = int(found["reps"])
    if found["every"]:
        fields["sharing.every"] = int(found["every"])
    return fields


def grid(dataset: str, row: str) -> tuple[Rates, ...]:
    """The rates that the paper searched for a row (appendices B.1 and B.2).

    Args:
      dataset: one of :data:`DATASETS`.
      row: see :func:`row_fields`.

    Returns:
      All combinations, those of large learning rates first.

    Example:
      >>> len(grid("cifar10", "lc")), grid("imagenet", "conv1-lc")[0]
      (8, Rates(learning_rate=0.001, weight_decay=0.0001))
    """
    is_conv = row_fields(row)["model.connectivity"] == "conv"
    decays: tuple[float, ...] = (1e-2, 1e-4)
    rates: tuple[float, ...]
    if dataset in ("cifar10", "cifar100"):
        rates = (1e-1, 5e-2, 1e-2, 5e-3) if is_conv else (1e-3, 5e-4, 1e-4, 5e-5)
    elif dataset == "tiny_imagenet":
        rates = (5e-3, 1e-3, 5e-4) if is_conv else (1e-3, 5e-4)
    elif is_conv or row.startswith(FIRST_CONV):
        rates, decays = (1e-3, 5e-4), (1e-2, 1e-4, 1e-6)
    else:
        rates, decays = (1e-3, 5e-4, 1e-4, 5e-5), (1e-2,)
    both = [Rates(rate, decay) for rate in rates for decay in decays]
    # "for weight decay of 1e-2 [we] only tested learning rate of 5e-4" (B.2).
    left_out = Rates(1e-3, 1e-2) if row.startswith(FIRST_CONV) and dataset == "imagenet" else None
    return tuple(each for each in both if each != left_out)


def make_config(*changes: Fields) -> ConfigDict:
    """The base configuration with changes.

    Args:
      *changes: values by dotted name; later ones count.

    Returns:
      A new configuration.

    Example:
      >>> make_config({"model.depth": 8, "seed": 1}, {"seed": 2}).seed
      2
    """
    config = base_config()
    for fields in changes:
        config.update_from_flattened_dict(dict(fields))
    return config
