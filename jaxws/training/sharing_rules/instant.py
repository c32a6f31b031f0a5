"""Sharing at once: every filter becomes the mean of its pool.

It is the paper's shortcut for what lateral connections and Hebbian plasticity do
(:mod:`jaxws.training.sharing_rules.hebbian`).
"""

from __future__ import annotations

from typing import Any

import jax

from jaxws.core.sharing import share_weights
from jaxws.training.sharing_rules.spec import SharingRule


def share_at_once(params: Any, step: jax.Array | int, pools: str) -> Any:
    """Shares weights at once.

    Args:
      params: parameters of a network, packed or not.
      step: changes nothing.
      pools: ``'grid'`` or ``'global'``.

    Returns:
      Parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"local_kernel": jnp.arange(4.0).reshape(4, 1, 1, 1)}
      >>> share_at_once(params, 0, "grid")["local_kernel"].ravel()
      Array([1.5, 1.5, 1.5, 1.5], dtype=float32)
    """
    return share_weights(params, pools=pools)


INSTANT = SharingRule(make=lambda config, model, image_shape: share_at_once)
