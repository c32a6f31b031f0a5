"""Which mesh suits a run: what its network, batch and optimizer make devices send and keep."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxws.layers.windows import layer_windows
from jaxws.models.build import variable_shapes
from jaxws.parallel.choice import Choice, choose_mesh
from jaxws.parallel.wire import Network, Step, network_of
from jaxws.training.optimizers import optimizer_settings
from jaxws.training.weight_sharing import Sharing


def choose_for(
    config: ConfigDict,
    model: nn.Module,
    sharing: Sharing,
    image_shape: tuple[int, int, int],
    devices: int,
) -> Choice:
    """Chooses the mesh of a run that is not told which one to take.

    Args:
      config: of the run.
      model: its network.
      sharing: when and how its weights are shared.
      image_shape: (H, W, c) of the images.
      devices: number of them.

    Returns:
      The mesh, and why it is this one.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> from jaxws.models.build import build_model
      >>> config, sharing = base_config(), Sharing(1, "grid", 98)
      >>> model = build_model(config.model, num_classes=10)
      >>> choose_for(config, model, sharing, (32, 32, 3), devices=8).sizes
      {'data': 1, 'h': 4, 'w': 2}
    """
    step = Step(
        images=config.batch_size,
        itemsize=jnp.dtype(config.model.dtype).itemsize,
        pooled=sharing.keeps_shared,
        accumulate=config.accumulate,
    )
    params = variable_shapes(model, image_shape)["params"]
    network = network_for(model, params, image_shape)
    return choose_mesh(devices, network, step, moments=_moments(config, params))


def network_for(model: nn.Module, params: Any, image_shape: tuple[int, int, int]) -> Network:
    """What of a network is sent or kept.

    Args:
      model: the network.
      params: shapes of its parameters.
      image_shape: (H, W, c) of the images.

    Returns:
      Its locally connected layers, and the number of other parameters.
    """
    try:
        windows = layer_windows(model, image_shape)
    except ValueError:
        windows = {}  # of layers with input dilation or blocks, which have none
    return network_of(params, windows)


def _moments(config: ConfigDict, params: Any) -> int:
    """Numbers that the optimizer keeps per parameter."""
    optimizer = optimizer_settings(config, steps_per_epoch=1).make()

    def size(tree: Any) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    return round(size(jax.eval_shape(optimizer.init, params)) / size(params))
