"""The optimizers: AdamW as in the paper, and SGD; both with the semantics of PyTorch's."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from jaxws.config.choices import OPTIMIZERS, check_one_of
from jaxws.training.schedules import drop_epochs, step_decay


class OptimizerSettings(NamedTuple):
    """What an optimizer is made from; hashable, so that programs can be compiled for it.

    Attributes:
      name: one of :data:`jaxws.config.choices.OPTIMIZERS`.
      learning_rate: of the first epochs.
      momentum: of SGD.
      weight_decay: see :func:`make_optimizer`.
      steps_per_epoch: see :func:`jaxws.training.schedules.step_decay`, as for all that follow.
      drop_epochs: after which the rate drops.
      drop_factor: divides the rate.
    """

    name: str
    learning_rate: float
    momentum: float
    weight_decay: float
    steps_per_epoch: int
    drop_epochs: tuple[int, ...]
    drop_factor: float

    def make(self) -> optax.GradientTransformation:
        """The optimizer; those of equal settings do the same."""
        schedule = step_decay(
            self.learning_rate, self.steps_per_epoch, self.drop_epochs, self.drop_factor
        )

        @optax.inject_hyperparams
        def make(learning_rate: float) -> optax.GradientTransformation:
            if self.name == "adamw":
                return optax.adamw(learning_rate, weight_decay=self.weight_decay)
            return optax.chain(
                optax.add_decayed_weights(self.weight_decay),
                optax.sgd(learning_rate, self.momentum or None),
            )

        return make(learning_rate=schedule)


def optimizer_settings(
    config: ConfigDict, steps_per_epoch: int, rate_factor: float = 1.0
) -> OptimizerSettings:
    """Reads a run's configuration.

    Args:
      config: of the run; ``optimizer`` and ``epochs`` are read.
      steps_per_epoch: batches in an epoch.
      rate_factor: multiplies all rates.

    Returns:
      What its optimizer is made from.

    Raises:
      ValueError: an unknown name.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> optimizer_settings(base_config(), steps_per_epoch=98).drop_epochs
      (100, 150)
    """
    settings = config.optimizer
    check_one_of("config.optimizer.name", settings.name, OPTIMIZERS)
    drops = settings.drop_epochs
    return OptimizerSettings(
        name=settings.name,
        learning_rate=settings.learning_rate * rate_factor,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        steps_per_epoch=steps_per_epoch,
        drop_epochs=drop_epochs(config.epochs) if drops is None else tuple(drops),
        drop_factor=settings.drop_factor,
    )


def make_optimizer(
    config: ConfigDict, steps_per_epoch: int, rate_factor: float = 1.0
) -> optax.GradientTransformation:
    """The optimizer of a run; :func:`last_learning_rate` reads its state.

    With rate lr, decay d and weights w, for every parameter alike, biases and scales included:

    - ``adamw``: ``w -= lr * d * w``, apart from Adam's update with betas 0.9 and 0.999, epsilon
      1e-8 (appendix B);
    - ``sgd``: the decay is part of the gradient, ``g += d * w``; with momentum m it is added to the
      buffer ``b = m * b + g`` and ``w -= lr * b``.

    The rate is a function of the updates done, from :func:`jaxws.training.schedules.step_decay`.

    Args:
      config: see :func:`optimizer_settings`, as for all that follow.
      steps_per_epoch: batches in an epoch.
      rate_factor: multiplies all rates.

    Returns:
      An optax transformation.

    Raises:
      ValueError: an unknown name.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> optimizer = make_optimizer(base_config(), steps_per_epoch=98)
      >>> print(last_learning_rate(optimizer.init({"w": 1.0})))
      0.001
    """
    return optimizer_settings(config, steps_per_epoch, rate_factor).make()


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
