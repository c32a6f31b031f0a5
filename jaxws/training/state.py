"""What a training run carries from step to step."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxws.training.constraints import obey
from jaxws.training.loss_scale import LossScale, initial_loss_scale


@flax.struct.dataclass
class TrainState:
    """Parameters and everything else that a step changes.

    Attributes:
      step: number of batches seen, int32; also of those whose step was skipped.
      params: parameters of the model, float32.
      batch_stats: running statistics of BatchNorm.
      opt_state: state of the optimizer; the learning rate counts in it.
      loss_scale: a :class:`jaxws.training.loss_scale.LossScale`, or () without loss scaling.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    loss_scale: LossScale | tuple[()] = ()


def create_train_state(
    key: jax.Array,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, int, int],
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> TrainState:
    """Draws initial parameters.

    Args:
      key: random key; the same key gives the same parameters.
      model: called on images as ``model(x, train=False)``.
      optimizer: an optax transformation; parameters obey the signs that it keeps.
      image_shape: (H, W, c) of the images.
      dtype: that the model computes in; float16 gets a loss scale.

    Returns:
      The state before the first step.

    Example:
      >>> from jaxws.models import ResNet
      >>> model = ResNet(stage_sizes=(), width=4, num_classes=10, conv=nn.Conv)
      >>> state = create_train_state(jax.random.key(0), model, optax.adamw(1e-3), (8, 8, 3))
      >>> int(state.step), state.params["conv1"]["kernel"].shape
      (0, (3, 3, 3, 4))
    """
    variables = model.init(key, jnp.zeros((1, *image_shape)))
    drawn = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=(),
        loss_scale=initial_loss_scale(dtype),
    )
    return start_optimizer(drawn, optimizer)


def start_optimizer(state: TrainState, optimizer: optax.GradientTransformation) -> TrainState:
    """Lets an optimizer begin, also with weights that were put in the place of drawn ones.

    Args:
      state: before the first step.
      optimizer: of the run; where it keeps signs (:mod:`jaxws.training.constraints`), these are
        found anew, and weights made to obey.

    Returns:
      The state.

    Example:
      >>> from jaxws.training.constraints import dale
      >>> state = TrainState(jnp.asarray(0), {"w": -jnp.ones((1, 1))}, {}, ())
      >>> state = start_optimizer(state, dale(["w"], excitatory=1.0))
      >>> state.params["w"].tolist(), state.opt_state.signs["w"].tolist()
      ([[1.0]], [1])
    """
    opt_state = optimizer.init(state.params)
    return dataclasses.replace(state, params=obey(state.params, opt_state), opt_state=opt_state)
