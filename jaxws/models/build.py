"""A network as a configuration describes it, and the shapes of its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from jaxws.config.registry import ARCHITECTURES


def build_model(config: ConfigDict, num_classes: int) -> nn.Module:
    """Builds the network of ``config.model``.

    Args:
      config: ``config.model``.
      num_classes: size of the output.

    Returns:
      The network.

    Raises:
      ValueError: an architecture that cannot be loaded, or settings of which it makes no network.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> build_model(base_config().model, num_classes=10).stage_sizes
      (3, 3, 3)
    """
    model = ARCHITECTURES.load(config.architecture).build(config, num_classes)
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"config.model.architecture={config.architecture!r} builds a {type(model).__name__};"
            " expected a flax.linen.Module."
        )
    ARCHITECTURES.check_hashable(config.architecture, model)
    return model


def variable_shapes(model: nn.Module, image_shape: Sequence[int]) -> Any:
    """Shapes of a network's parameters and statistics; nothing is computed.

    Args:
      model: the network.
      image_shape: (H, W, c) of the images.

    Returns:
      As ``model.init``, with a :class:`jax.ShapeDtypeStruct` for each array.

    Example:
      >>> variable_shapes(nn.Dense(3), (2, 2, 4))["params"]["kernel"].shape
      (4, 3)
    """
    images = jax.ShapeDtypeStruct((1, *image_shape), "float32")
    return jax.eval_shape(model.init, jax.random.key(0), images)
