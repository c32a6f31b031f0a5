"""What the library needs to know of a sharing rule that configurations can name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict

# Called as share(params, step, pools): the network's parameters, packed or not; the number of
# batches before this one, traced; config.sharing.pools. Returns parameters of the same structure.
# Steps are compiled for it, so it can be hashed and is equal to others of equal settings: a
# function of a module, or a frozen dataclass with __call__.
Share = Callable[[Any, jax.Array | int, str], Any]


def _accept(config: ConfigDict) -> None:
    """Every configuration will do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharingRule:
    """A rule as ``config.sharing.mode`` names it; docs/extending.md adds one.

    When it is used is not its business: ``config.sharing.every`` is n of ws(n).

    Attributes:
      make: called as ``make(config, model, image_shape)`` with the configuration of the run, its
        network, and (H, W, c) of the images, for a :data:`Share`. Raises ValueError for what is
        impossible for a layer of the network.
      check: called as ``check(config)``, before data are read; raises ValueError for settings that
        the rule cannot be used with. By default it accepts all.
      fields: fields of its own, with their defaults, of a rule from outside the library: they are
        added to ``config.sharing``. A default of None is ``config_dict.placeholder(type)``. Those
        of rules in the library are in ``config/fields.py``.
    """

    make: Callable[[ConfigDict, nn.Module, Sequence[int]], Share]
    check: Callable[[ConfigDict], None] = _accept
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
