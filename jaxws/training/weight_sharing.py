"""When and how a run shares weights: at once, in sleep phases, or online while it learns.

Instant sharing is the paper's shortcut for what lateral connections and Hebbian plasticity do
(:func:`jaxws.dynamics.sleep_phase`). ``"sleep"`` runs that in its place. ``"online"`` never sleeps:
a few patches of noise between batches drive the same rule, with no weights to be pulled back to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from flax.core import FrozenDict
from jax import lax
from ml_collections import ConfigDict

from jaxws.core.sharing import share_weights
from jaxws.core.window import LayerWindow
from jaxws.dynamics import Rule, check_sleep_phase, sleep_phase
from jaxws.layers.windows import layer_windows
from jaxws.training.schedules import shares_after

# Keeps the noise of sleep apart from the draws of weights, order and augmentation.
_NOISE_STREAM = 0x51EE9


class Hebbian(NamedTuple):
    """How weights are shared by plasticity.

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


class Sharing(NamedTuple):
    """When and how a run shares weights; hashable if its ``hebbian`` is.

    Attributes:
      every: n of ws(n); 0 is never.
      pools: ``'grid'`` or ``'global'``.
      steps_per_epoch: batches in an epoch, from which ws(n) counts.
      hebbian: by plasticity; None is at once.
    """

    every: int
    pools: str
    steps_per_epoch: int
    hebbian: Hebbian | None = None

    @property
    def keeps_shared(self) -> bool:
        """Whether weights of a pool are equal after every step."""
        return self.every == 1 and self.hebbian is None


def make_sharing(
    config: ConfigDict, model: nn.Module, image_shape: Sequence[int], steps_per_epoch: int
) -> Sharing:
    """Reads a run's configuration.

    Args:
      config: of the run.
      model: its network.
      image_shape: (H, W, c) of the network's input.
      steps_per_epoch: batches in an epoch.

    Returns:
      When and how it shares.

    Raises:
      ValueError: a rule that is impossible for a layer of this network.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> make_sharing(base_config(), nn.Dense(1), (8, 8, 1), 98)
      Sharing(every=0, pools='grid', steps_per_epoch=98, hebbian=None)
    """
    sharing = Sharing(config.sharing.every, config.sharing.pools, steps_per_epoch)
    if config.sharing.mode == "instant":
        return sharing
    if config.sharing.mode == "sleep":
        sleep = config.sharing.sleep
        rule = Rule(sleep.iterations, sleep.patterns, sleep.rate, sleep.gamma)
    else:
        online = config.sharing.online
        rule = Rule(1, online.patterns, online.rate, 0.0)
    borders = config.sharing.borders
    windows: Mapping[str, LayerWindow] = FrozenDict(layer_windows(model, image_shape))
    images = jax.ShapeDtypeStruct((1, *image_shape), "float32")
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    check_sleep_phase(params, rule, borders=borders, windows=windows)
    return sharing._replace(hebbian=Hebbian(rule, borders, windows, config.seed))


def share(params: Any, step: jax.Array | int, sharing: Sharing) -> Any:
    """Shares weights once.

    Args:
      params: parameters of the network, packed or not.
      step: number of batches before this one; the noise is a function of it and the seed.
      sharing: how.

    Returns:
      Parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"local_kernel": jnp.arange(4.0).reshape(4, 1, 1, 1)}
      >>> share(params, 0, Sharing(1, "grid", 98))["local_kernel"].ravel()
      Array([1.5, 1.5, 1.5, 1.5], dtype=float32)
    """
    if sharing.hebbian is None:
        return share_weights(params, pools=sharing.pools)
    rule, borders, windows, seed = sharing.hebbian
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _NOISE_STREAM), step)
    return sleep_phase(key, params, rule, borders=borders, windows=windows)


def share_if_due(
    params: Any, step: jax.Array, sharing: Sharing, unless: jax.Array | None = None
) -> Any:
    """Shares weights after the batches that ws(n) names.

    Args:
      params: parameters of the network, packed or not.
      step: number of batches before this one.
      sharing: when and how.
      unless: where true, weights are left alone.

    Returns:
      Parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"local_kernel": jnp.arange(4.0).reshape(4, 1, 1, 1)}
      >>> shared = share_if_due(params, jnp.asarray(1), Sharing(2, "grid", 98))
      >>> bool((shared["local_kernel"] == params["local_kernel"]).all())
      True
    """
    due = shares_after(step, sharing.every, sharing.steps_per_epoch)
    if due is False:
        return params
    if unless is not None:
        due = due & ~unless
    if due is True:
        return share(params, step, sharing)
    return lax.cond(due, lambda p: share(p, step, sharing), lambda p: p, params)
