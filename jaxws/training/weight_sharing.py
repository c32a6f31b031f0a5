"""When and how a run shares weights: ws(n), and a rule of :mod:`jaxws.training.sharing_rules`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax import lax
from ml_collections import ConfigDict

from jaxws.config.registry import SHARING_RULES
from jaxws.core.leaf_patterns import map_matching, matches
from jaxws.core.local_kernels import LOCAL_KERNEL, MASKED_KERNEL
from jaxws.core.pooled import pool_kernels
from jaxws.training.optimizers import frozen_patterns
from jaxws.training.sharing_rules import Share
from jaxws.training.sharing_rules.instant import share_at_once


class Sharing(NamedTuple):
    """When and how a run shares weights; it can be hashed, as its rule can.

    Attributes:
      every: n of ws(n); 0 is never.
      pools: ``'grid'`` or ``'global'``.
      steps_per_epoch: batches in an epoch, from which ws(n) counts.
      rule: how, once it is time.
      frozen: patterns of leaves (:mod:`jaxws.core.leaf_patterns`) that sharing leaves alone too.
    """

    every: int
    pools: str
    steps_per_epoch: int
    rule: Share = share_at_once
    frozen: tuple[str, ...] = ()

    @property
    def keeps_shared(self) -> bool:
        """Whether every step ends with the mean of each pool, which :mod:`jaxws.core.pooled` is."""
        return self.every == 1 and self.rule == share_at_once

    @property
    def keeps_signs(self) -> bool:
        """Whether weights of one sign keep it, as a mean does; other rules may do anything."""
        return self.every == 0 or self.rule == share_at_once


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
      ValueError: a rule that cannot be loaded, or is impossible for a layer of this network.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> make_sharing(base_config(), nn.Dense(1), (8, 8, 1), 98) == Sharing(0, "grid", 98)
      True
    """
    rule = SHARING_RULES.load(config.sharing.mode).make(config, model, image_shape)
    SHARING_RULES.check_hashable(config.sharing.mode, rule)
    every, pools = config.sharing.every, config.sharing.pools
    return Sharing(every, pools, steps_per_epoch, rule, frozen_patterns(config))


def check_shareable(sharing: Sharing, names: Sequence[str]) -> None:
    """Checks that a network's weights can be shared, and that frozen leaves leave some to share.

    Args:
      sharing: of a run.
      names: of the network's parameters.

    Raises:
      ValueError: it shares weights, and all that could be shared are frozen, or some have a mask.

    Example:
      >>> check_shareable(Sharing(1, "grid", 98), ["conv1/local_kernel"])
    """
    masked = [name for name in names if name.rpartition("/")[2] == MASKED_KERNEL]
    if sharing.every and masked:
        raise ValueError(
            f"config.sharing.every={sharing.every}, but layers have masks ({masked[0]}), which the"
            " sharing rules do not know: set config.sharing.every=0, or share in a loop of your own"
            " by jaxws.share_weights(params, mask=variables['masks'])."
        )
    kernels = [name for name in names if name.rpartition("/")[2] == LOCAL_KERNEL]
    if sharing.every and kernels and all(matches(name, sharing.frozen) for name in kernels):
        raise ValueError(
            f"config.sharing.every={sharing.every}, but config.optimizer.freeze={sharing.frozen!r}"
            " names all locally connected kernels, which are not shared then: set"
            " config.sharing.every=0, or freeze fewer."
        )


def share(params: Any, step: jax.Array | int, sharing: Sharing) -> Any:
    """Shares weights once.

    Args:
      params: parameters of the network, packed or not.
      step: number of batches before this one; rules may draw noise that is a function of it.
      sharing: how.

    Returns:
      Parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"local_kernel": jnp.arange(4.0).reshape(4, 1, 1, 1)}
      >>> share(params, 0, Sharing(1, "grid", 98))["local_kernel"].ravel()
      Array([1.5, 1.5, 1.5, 1.5], dtype=float32)
    """
    return keep_frozen(sharing.rule(params, step, sharing.pools), params, sharing)


def pool(params: Any, sharing: Sharing) -> Any:
    """Shares weights once, and keeps one filter per pool, as :mod:`jaxws.core.pooled` does.

    Args:
      params: parameters of the network, in any layout.
      sharing: of a run that keeps them so.

    Returns:
      Parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"local_kernel": jnp.arange(4.0).reshape(4, 1, 1, 1)}
      >>> pool(params, Sharing(1, "grid", 98))["local_kernel"].filters.ravel()
      Array([1.5], dtype=float32)
    """
    return keep_frozen(pool_kernels(params, pools=sharing.pools), params, sharing)


def keep_frozen(shared: Any, params: Any, sharing: Sharing) -> Any:
    """Takes back what sharing did to frozen leaves.

    Args:
      shared: parameters of the network after it, in any layout.
      params: before it.
      sharing: says which leaves are frozen.

    Returns:
      Parameters.

    Example:
      >>> sharing = Sharing(1, "grid", 98, frozen=("w",))
      >>> keep_frozen({"w": 1.0, "v": 1.0}, {"w": 0.0, "v": 0.0}, sharing)
      {'v': 1.0, 'w': 0.0}
    """
    return map_matching(lambda _, before: before, shared, sharing.frozen, params)


def shares_after(step: jax.Array | int, every: int, steps_per_epoch: int) -> jax.Array | bool:
    """Whether ws(n) shares weights after this batch: batches 0, n, 2n, ... of every epoch.

    Args:
      step: number of batches before this one, from the start of training.
      every: n of ws(n); 0 is never.
      steps_per_epoch: batches in an epoch; the count starts again with each.

    Returns:
      A bool; an array if it depends on the step and ``step`` is one.

    Example:
      >>> [shares_after(step, every=3, steps_per_epoch=5) for step in range(7)]
      [True, False, False, True, False, True, False]
    """
    if every in (0, 1):
        return bool(every)
    return (step % steps_per_epoch) % every == 0


def maybe_share(
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
      >>> shared = maybe_share(params, jnp.asarray(1), Sharing(2, "grid", 98))
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
