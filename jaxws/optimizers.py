"""The optimizers: AdamW as in the paper, and SGD; both with the semantics of PyTorch's."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from jaxws.schedules import drop_epochs, step_decay

NAMES = ("adamw", "sgd")


def make_optimizer(
    config: ConfigDict, steps_per_epoch: int, rate_factor: float = 1.0
) -> optax.GradientTransformation:
    """The optimizer of a run; :func:`last_learning_rate` reads its state.

    With rate lr, decay d and weights w, for every parameter alike, biases and scales included:

    - ``adamw``: ``w -= lr * d * w``, apart from Adam's update with betas 0.9 and 0.999, epsilon
      1e-8 (appendix B);
    - ``sgd``: the decay is part of the gradient, ``g += d * w``; with momentum m it is added to the
      buffer ``b = m * b + g`` and ``w -= lr * b``.

    The rate is a function of the updates done, from :func:`jaxws.schedules.step_decay`.

    Args:
      config: of the run; ``optimizer`` and ``epochs`` are read.
      steps_per_epoch: batches in an epoch.
      rate_factor: multiplies all rates.

    Returns:
      An optax transformation.

    Raises:
      ValueError: an unknown name.

    Example:
      >>> from jaxws.config import base_config
      >>> optimizer = make_optimizer(base_config(), steps_per_epoch=98)
      >>> print(last_learning_rate(optimizer.init({"w": 1.0})))
      0.001
    """
    name, momentum = config.optimizer.name, config.optimizer.momentum
    decay, drops = config.optimizer.weight_decay, config.optimizer.drop_epochs
    schedule = step_decay(
        config.optimizer.learning_rate * rate_factor,
        steps_per_epoch,
        drop_epochs(config.epochs) if drops is None else tuple(drops),
        config.optimizer.drop_factor,
    )

    @optax.inject_hyperparams
    def make(learning_rate: float) -> optax.GradientTransformation:
        if name == "adamw":
            return optax.adamw(learning_rate, weight_decay=decay)
        return optax.chain(
            optax.add_decayed_weights(decay), optax.sgd(learning_rate, momentum or None)
        )

    if name not in NAMES:
        raise ValueError(f"config.optimizer.name={name!r}: expected one of {NAMES}.")
    return make(learning_rate=schedule)


def last_learning_rate(opt_state: Any) -> jax.Array:
    """The rate of the last update, or of the first one before it.

    Args:
      opt_state: state of an optimizer of :func:`make_optimizer`; others do not tell, which is NaN.

    Returns:
      A scalar.

    Example:
      >>> last_learning_rate(optax.sgd(0.1).init({"w": 1.0}))
      Array(nan, dtype=float32, weak_type=True)
    """
    hyperparams = optax.tree.get(opt_state, "hyperparams", {})
    return jnp.asarray(hyperparams.get("learning_rate", jnp.nan))
