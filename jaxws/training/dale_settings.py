"""Dale's law in a run: what ``config.plasticity.dale`` says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import optax
from ml_collections import ConfigDict

from jaxws.core.leaf_patterns import matches, matching
from jaxws.core.named_leaves import named_leaves
from jaxws.training.constraints import dale

EXCITATORY = 0.8  # of channels, about as in cortex
# What a ResNet has between its first layer, which reads images and no neurons, and its readout; and
# the scales of BatchNorm there, which would turn all that a neuron reads around if negative.
LEAVES, NONNEGATIVE = ("layer*kernel",), ("layer*scale",)


class Dale(NamedTuple):
    """What a run's :func:`jaxws.training.constraints.dale` is made from; hashable.

    Attributes:
      signs: ``'seed'`` or ``'initial'``.
      excitatory: fraction of channels.
      seed: of the draw.
      leaves: patterns of filters.
      nonnegative: patterns of leaves that stay 0 or above.
    """

    signs: str
    excitatory: float
    seed: int
    leaves: tuple[str, ...]
    nonnegative: tuple[str, ...]

    def kind(self, name: str) -> str | None:
        """What is kept of a leaf.

        Args:
          name: of the leaf.

        Returns:
          ``'channels'``, whose signs its weights keep; ``'nonnegative'``; None if it is free.
        """
        if matches(name, self.leaves):
            return "channels"
        return "nonnegative" if matches(name, self.nonnegative) else None

    def make(self, exempt: Sequence[str] = ()) -> optax.GradientTransformation:
        """The constraint.

        Args:
          exempt: patterns of leaves that are left out.

        Returns:
          An optax transformation.
        """
        return dale(**self._asdict(), exempt=exempt)


def dale_settings(config: ConfigDict) -> Dale | None:
    """Reads a run's configuration.

    Args:
      config: of the run; ``plasticity.dale`` and ``seed`` are read.

    Returns:
      What its constraint is made from; None where weights may have any sign.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> config = base_config()
      >>> config.plasticity.dale.signs = "seed"
      >>> dale_settings(config).leaves
      ('layer*kernel',)
    """
    settings = config.plasticity.dale
    signs, excitatory = settings.signs, settings.excitatory
    leaves, nonnegative = settings.leaves, settings.nonnegative
    if signs is None:
        return None
    return Dale(
        signs=signs,
        excitatory=EXCITATORY if excitatory is None else excitatory,
        seed=config.seed,
        leaves=LEAVES if leaves is None else tuple(leaves),
        nonnegative=NONNEGATIVE if nonnegative is None else tuple(nonnegative),
    )


def check_dale(config: ConfigDict, params: Any, frozen: Sequence[str]) -> None:
    """Checks the patterns of ``config.plasticity.dale`` against a network.

    Args:
      config: of the run.
      params: of its network, or their shapes.
      frozen: patterns of those that are frozen, which no constraint changes.

    Raises:
      ValueError: a pattern that fits no leaf, or all that fit are frozen; a leaf that reads no
        channels. Networks without BatchNorm need not say so: of what may not be negative, the
        default may fit none.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> config = base_config()
      >>> config.plasticity.dale.signs = "seed"
      >>> check_dale(config, {"fc": {"kernel": jax.ShapeDtypeStruct((8, 10), "float32")}}, ())
      Traceback (most recent call last):
      ValueError: config.plasticity.dale.leaves=('layer*kernel',), its default: no leaf fits
      'layer*kernel'. There are 'fc/kernel'.
    """
    constraint, given = dale_settings(config), config.plasticity.dale
    if constraint is None:
        return
    names = list(named_leaves(params))
    unset = "" if given.leaves is not None else ", its default"
    name = f"config.plasticity.dale.leaves={constraint.leaves!r}{unset}"
    if all(matches(leaf, frozen) for leaf in matching(names, constraint.leaves, name)):
        raise ValueError(f"{name}: all of them are frozen, and keep their bits.")
    if given.nonnegative is not None:
        name = f"config.plasticity.dale.nonnegative={constraint.nonnegative!r}"
        matching(names, constraint.nonnegative, name)
    try:
        jax.eval_shape(constraint.make(exempt=frozen).init, params)
    except ValueError as error:
        raise ValueError(f"config.plasticity.dale: {error}") from error
