"""What the library needs to know of a network that configurations can name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict


def _accept(config: ConfigDict, image_shape: tuple[int, int, int]) -> None:
    """Every image will do."""


def _name(config: ConfigDict) -> str:
    return config.architecture


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A network as ``config.model.architecture`` names it; docs/extending.md adds one.

    Attributes:
      build: called as ``build(config.model, num_classes)``, for a Flax module that can be hashed
        and is equal to others of equal settings, as Flax modules are. Training calls it as
        ``model(images, train=True, mask=mask)`` with images (n, H, W, c) and a mask (n,),
        False for rows that only fill up the batch, or None; it returns logits (n,
        num_classes), float32. It may have parameters and ``batch_stats``. Raises ValueError for
        settings that make no network.
      check: called as ``check(config.model, image_shape)`` with (H, W, c), before anything is
        written; raises ValueError for images that the network cannot take. By default it takes all.
      describe: called as ``describe(config.model)``, for the network in a few words, which reports
        begin with. By default it is the architecture's name.
      axes: what the axes of parameters are, by their name and number of axes, as in
        ``{("position_embedding", 2): "hf"}``: only names that Flax and jaxws do not use themselves.
        The letters are those of :mod:`jaxws.checkpointing.described`, for exports.
      fields: fields of its own, with their defaults, of a network from outside the library: they
        are added to ``config.model``. A default of None is ``config_dict.placeholder(type)``. Those
        of networks in the library are in ``config/fields.py``.
    """

    build: Callable[[ConfigDict, int], nn.Module]
    check: Callable[[ConfigDict, tuple[int, int, int]], None] = _accept
    describe: Callable[[ConfigDict], str] = _name
    axes: Mapping[tuple[str, int], str] = dataclasses.field(default_factory=dict)
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
