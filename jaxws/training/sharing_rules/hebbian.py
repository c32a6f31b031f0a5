"""Sharing by plasticity: in sleep phases, or online while the network learns.

``"sleep"`` runs :func:`jaxws.dynamics.sleep_phase`. ``"online"`` never sleeps: a few patches of
noise between batches drive the same rule, with no weights to be pulled back to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from flax.core import FrozenDict
from ml_collections import ConfigDict

from jaxws.core.window import LayerWindow
from jaxws.dynamics import Rule, check_sleep_phase, sleep_phase
from jaxws.layers.windows import layer_windows
from jaxws.models.build import variable_shapes
from jaxws.training.sharing_rules.spec import SharingRule

# Keeps the noise of sleep apart from the draws of weights, order and augmentation.
_NOISE_STREAM = 0x51EE9


@dataclasses.dataclass(frozen=True)
class Hebbian:
    """Shares weights by plasticity; a :data:`jaxws.training.sharing_rules.Share`.

    Attributes:
      rule: iterations, patterns, rate, gamma.
      borders: as in :func:`jaxws.dynamics.sleep_phase`.
      windows: of every layer; as a :class:`flax.core.FrozenDict` they can be hashed.
      seed: of the noise.
    """

    rule: Rule
    borders: str
    windows: Mapping[str, LayerWindow] | None
    seed: int

    def __call__(self, params: Any, step: jax.Array | int, pools: str) -> Any:
        """Shares weights by one phase.

        Args:
          params: parameters of the network, packed or not.
          step: number of batches before this one; the noise is a function of it and the seed.
          pools: changes nothing; they are grids (see :func:`_check`).

        Returns:
          Parameters.
        """
        key = jax.random.fold_in(jax.random.key(self.seed), _NOISE_STREAM)
        key = jax.random.fold_in(key, step)
        return sleep_phase(key, params, self.rule, borders=self.borders, windows=self.windows)


def _make(rule: Rule, config: ConfigDict, model: nn.Module, image_shape: Sequence[int]) -> Hebbian:
    borders = config.sharing.borders
    windows: Mapping[str, LayerWindow] = FrozenDict(layer_windows(model, image_shape))
    params = variable_shapes(model, image_shape)["params"]
    check_sleep_phase(params, rule, borders=borders, windows=windows)
    return Hebbian(rule, borders, windows, config.seed)


def _make_sleep(config: ConfigDict, model: nn.Module, image_shape: Sequence[int]) -> Hebbian:
    sleep = config.sharing.sleep
    rule = Rule(sleep.iterations, sleep.patterns, sleep.rate, sleep.gamma)
    return _make(rule, config, model, image_shape)


def _make_online(config: ConfigDict, model: nn.Module, image_shape: Sequence[int]) -> Hebbian:
    online = config.sharing.online
    return _make(Rule(1, online.patterns, online.rate, 0.0), config, model, image_shape)


def _check(config: ConfigDict) -> None:
    if config.sharing.pools == "global":
        raise ValueError(
            f"config.sharing.mode={config.sharing.mode!r} with config.sharing.pools='global':"
            " neurons can only equalise what they see of the same pattern; expected pools='grid'."
        )


SLEEP = SharingRule(make=_make_sleep, check=_check)
ONLINE = SharingRule(make=_make_online, check=_check)
