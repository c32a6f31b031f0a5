"""The parameters of a configuration's network: which are trained, frozen, decay, keep signs."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
from ml_collections import ConfigDict

from jaxws import data
from jaxws.commands.flags import config_of
from jaxws.config.checks import check_config
from jaxws.config.registry import add_own_fields
from jaxws.core.leaf_patterns import matches
from jaxws.core.named_leaves import named_leaves
from jaxws.models.build import build_model, variable_shapes
from jaxws.training.dale_settings import check_dale, dale_settings
from jaxws.training.optimizers import check_leaves, frozen_patterns

SIGNS = {"channels": "keeps its channels' signs", "nonnegative": "stays 0 or above"}


class Parameter(NamedTuple):
    """One leaf of a network's parameters.

    Attributes:
      name: as patterns are compared with it.
      shape: of the array.
      trained: whether it is not frozen.
      decays: whether weight decay acts on it.
      signs: what its weights may not cross 0 for: ``'channels'`` keep theirs, it is
        ``'nonnegative'``, or none.
    """

    name: str
    shape: tuple[int, ...]
    trained: bool
    decays: bool
    signs: str | None = None

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)


def show_parameters(args: argparse.Namespace) -> int:
    """Prints what is trained, frozen and decays in the network of ``--config``.

    Args:
      args: of :mod:`jaxws.commands.check`.

    Returns:
      0.

    Raises:
      ValueError: there is no ``--config``, or what is wrong with it.
    """
    if not args.config:
        raise ValueError("--config.FIELD without --config: give the configuration, as for train.")
    parameters = parameters_of(config_of(args)[0])
    if args.json:
        print(json.dumps([parameter._asdict() for parameter in parameters]))
    else:
        print("\n".join(lines_of(parameters)))
    return 0


def parameters_of(config: ConfigDict) -> list[Parameter]:
    """Reads a configuration and its data, as a run would, but makes nothing.

    Args:
      config: of a run; gets the fields of its own network that it has not.

    Returns:
      All parameters.

    Raises:
      ValueError: what is wrong with the configuration or the data.
    """
    add_own_fields(config)
    check_config(config)
    feed = data.build_feed(config)
    return list_parameters(
        config, build_model(config.model, len(feed.class_names)), feed.image_shape
    )


def list_parameters(
    config: ConfigDict, model: nn.Module, image_shape: tuple[int, int, int]
) -> list[Parameter]:
    """What a configuration does to each parameter of a network.

    Args:
      config: of a run; ``optimizer`` and ``plasticity`` are read.
      model: its network.
      image_shape: (H, W, c) of the network's input.

    Returns:
      All parameters.

    Raises:
      ValueError: a pattern that fits none.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> config = base_config()
      >>> config.optimizer.decay_mask = ("kernel",)
      >>> [(p.name, p.decays) for p in list_parameters(config, nn.Dense(3), (2, 2, 4))]
      [('bias', False), ('kernel', True)]
    """
    params = variable_shapes(model, image_shape)["params"]
    leaves = named_leaves(params)
    check_leaves(config, list(leaves))
    frozen, decay = frozen_patterns(config), config.optimizer.decay_mask
    check_dale(config, params, frozen)
    dale = dale_settings(config)
    found = []
    for name, leaf in leaves.items():
        trained = not matches(name, frozen)
        named = decay is None or matches(name, decay)
        decays = trained and named and config.optimizer.weight_decay > 0
        signs = dale.kind(name) if dale is not None and trained else None
        found.append(Parameter(name, tuple(leaf.shape), trained, decays, signs))
    return found


def lines_of(parameters: Sequence[Parameter]) -> list[str]:
    """A table of parameters, and how many weights there are of each kind.

    Args:
      parameters: of a network.

    Returns:
      Lines.

    Example:
      >>> print(lines_of([Parameter("fc/bias", (10,), True, False)])[-1])
      10 parameters in 1 arrays: 10 trained, 0 frozen; 0 of those trained decay
    """
    width = max(len(each.name) for each in parameters)
    lines = []
    for each in parameters:
        shape = "x".join(map(str, each.shape))
        kinds = ["trained" if each.trained else "frozen"]
        kinds += ["decays"] if each.decays else []
        kinds += [SIGNS[each.signs]] if each.signs else []
        lines.append(f"{each.name:<{width}}  {shape:<18} {', '.join(kinds)}")
    trained, decaying = (
        sum(p.size for p in parameters if getattr(p, kind)) for kind in ("trained", "decays")
    )
    total = sum(each.size for each in parameters)
    counts = f"{trained} trained, {total - trained} frozen; {decaying} of those trained decay"
    return [*lines, "", f"{total} parameters in {len(parameters)} arrays: {counts}"]
