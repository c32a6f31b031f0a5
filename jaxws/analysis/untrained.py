"""The control beside every picture of a network: the same architecture before training."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxws.models import Loaded


def untrained(network: Loaded, seed: int) -> Loaded:
    """Draws the weights of a network anew.

    Weights are as a run's before its first step: filters of all positions drawn independently, also
    where the run shares them later, and BatchNorm with mean 0 and variance 1.

    Args:
      network: a trained one.
      seed: of its weights.

    Returns:
      The network with other ``variables``, and without a name, step and metrics.

    Example:
      >>> import jaxws
      >>> network = jaxws.models.load("small/lc")
      >>> control = untrained(network, seed=0)
      >>> control.model == network.model, control.info["metrics"]
      (True, {})
    """
    variables = _initial(
        jax.random.key(seed), network.model, tuple(network.info["data"]["image_shape"])
    )
    info = {
        **network.info,
        "name": None,
        "path": f"untrained, seed {seed}",
        "step": 0,
        "metrics": {},
    }
    return network._replace(variables=jax.tree.map(np.asarray, variables), info=info)


@partial(jax.jit, static_argnums=(1, 2))
def _initial(key: jax.Array, model: nn.Module, image_shape: tuple[int, int, int]) -> Any:
    return model.init(key, jnp.zeros((1, *image_shape)))
