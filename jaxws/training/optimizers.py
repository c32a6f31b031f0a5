"""The optimizers: AdamW as in the paper, and SGD; both with the semantics of PyTorch's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from jaxws.config.choices import OPTIMIZERS, check_one_of
from jaxws.core.fused_adamw import AdamW
from jaxws.core.leaf_patterns import matches, matching, matching_mask
from jaxws.training.dale_settings import Dale, dale_settings


def step_decay(
    learning_rate: float,
    steps_per_epoch: int,
    drop_epochs: Sequence[int] = (100, 150),
    drop_factor: float = 4.0,
) -> optax.Schedule:
    """The paper's schedule: the rate is divided by 4 after epochs 100 and 150 (appendix B.1).

    Args:
      learning_rate: rate of the first epochs.
      steps_per_epoch: batches in an epoch, the ragged last one included.
      drop_epochs: the rate drops once so many epochs are over; see :func:`drop_epochs`.
      drop_factor: divides the rate.

    Returns:
      A function from step, counted from 0, to learning rate.

    Example:
      >>> schedule = step_decay(1e-3, steps_per_epoch=98)
      >>> print(f"{schedule(100 * 98 - 1):.6f} {schedule(100 * 98):.6f}")
      0.001000 0.000250
    """
    boundaries = {epoch * steps_per_epoch: 1 / drop_factor for epoch in drop_epochs}
    return optax.piecewise_constant_schedule(learning_rate, boundaries)


def drop_epochs(epochs: int) -> tuple[int, ...]:
    """When the rate drops in a run of so many epochs: after half and after three quarters of them.

    These are the paper's schedules of 200 epochs, (100, 150), and its compressed ones of 50 and 20
    for searches, and fractions of an epoch are left out as there.

    Args:
      epochs: of the run.

    Returns:
      Increasing epoch numbers from 1; fewer than two in runs that are too short.

    Example:
      >>> [drop_epochs(epochs) for epochs in (200, 50, 20)]
      [(100, 150), (25, 37), (10, 15)]
    """
    return tuple(sorted({epochs // 2, 3 * epochs // 4} - {0}))


class KnownAdamW(optax.GradientTransformationExtraArgs):
    """:func:`optax.adamw` with an injected learning rate, which says so.

    A step may compute what it computes in another way (:mod:`jaxws.training.fused_update`).

    Attributes:
      adamw: its coefficients.
      decay_mask: patterns of leaves that decay; None for all.
    """

    adamw: AdamW
    decay_mask: tuple[str, ...] | None

    def coefficients(self, name: str) -> AdamW:
        """Those of a leaf.

        Args:
          name: of the leaf.

        Returns:
          Its coefficients, without weight decay where it does not decay.
        """
        decays = self.decay_mask is None or matches(name, self.decay_mask)
        return self.adamw if decays else self.adamw._replace(weight_decay=0.0)


class OptimizerSettings(NamedTuple):
    """What an optimizer is made from; hashable, so that programs can be compiled for it.

    Attributes:
      name: one of :data:`jaxws.config.choices.OPTIMIZERS`.
      learning_rate: of the first epochs.
      momentum: of SGD.
      weight_decay: see :func:`make_optimizer`.
      steps_per_epoch: see :func:`step_decay`, as for all that follow.
      drop_epochs: after which the rate drops.
      drop_factor: divides the rate.
      freeze: patterns of leaves (:mod:`jaxws.core.leaf_patterns`) that stay as they are.
      decay_mask: patterns of leaves that decay; None for all.
      dale: which weights keep their signs; None for none.
    """

    name: str
    learning_rate: float
    momentum: float
    weight_decay: float
    steps_per_epoch: int
    drop_epochs: tuple[int, ...]
    drop_factor: float
    freeze: tuple[str, ...] = ()
    decay_mask: tuple[str, ...] | None = None
    dale: Dale | None = None

    def make(self) -> optax.GradientTransformation:
        """The optimizer; those of equal settings do the same."""
        schedule = step_decay(
            self.learning_rate, self.steps_per_epoch, self.drop_epochs, self.drop_factor
        )

        @optax.inject_hyperparams
        def make(learning_rate: float) -> optax.GradientTransformation:
            optimizer = self._make_of(learning_rate)
            if not self.freeze:
                return optimizer  # the structure of its state is that of old checkpoints
            # What is frozen has no moments either.
            parts = {"train": optimizer, "freeze": optax.set_to_zero()}
            return optax.partition(parts, self._labels)

        optimizer = make(learning_rate=schedule)
        if self.dale is not None:
            return optax.chain(optimizer, self.dale.make(exempt=self.freeze))
        if self.name != "adamw" or self.freeze:
            return optimizer
        known = KnownAdamW(*optimizer)
        known.adamw, known.decay_mask = self._adamw, self.decay_mask
        return known

    @property
    def _adamw(self) -> AdamW:
        return AdamW(weight_decay=self.weight_decay)

    def _make_of(self, learning_rate: float) -> optax.GradientTransformation:
        decay, patterns = self.weight_decay, self.decay_mask
        mask = None if patterns is None else partial(matching_mask, patterns=patterns)
        if self.name == "adamw":
            return optax.adamw(learning_rate, **self._adamw._asdict(), mask=mask)
        return optax.chain(
            optax.add_decayed_weights(decay, mask),
            optax.sgd(learning_rate, self.momentum or None),
        )

    def _labels(self, params: Any) -> Any:
        frozen = matching_mask(params, self.freeze)
        return jax.tree.map(lambda is_frozen: "freeze" if is_frozen else "train", frozen)


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
        freeze=frozen_patterns(config),
        decay_mask=None if settings.decay_mask is None else tuple(settings.decay_mask),
        dale=dale_settings(config),
    )


def frozen_patterns(config: ConfigDict) -> tuple[str, ...]:
    """Patterns of the leaves that a run leaves as they start.

    Args:
      config: of the run.

    Returns:
      ``config.optimizer.freeze``; empty where it is unset.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> frozen_patterns(base_config())
      ()
    """
    return tuple(config.optimizer.freeze or ())


def check_leaves(config: ConfigDict, names: Sequence[str]) -> None:
    """Checks the patterns of ``config.optimizer`` against a network.

    Args:
      config: of the run.
      names: of the network's parameters.

    Raises:
      ValueError: a pattern that fits no leaf, or nothing is left to train.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> config = base_config()
      >>> config.optimizer.freeze = ("*",)
      >>> check_leaves(config, ["fc/bias"])
      Traceback (most recent call last):
      ValueError: config.optimizer.freeze=('*',): all parameters are frozen, nothing is trained.
    """
    for field in ("freeze", "decay_mask"):
        if patterns := tuple(config.optimizer[field] or ()):
            given = f"config.optimizer.{field}={patterns!r}"
            found = matching(names, patterns, given)
            if field == "freeze" and len(found) == len(names):
                raise ValueError(f"{given}: all parameters are frozen, nothing is trained.")


def make_optimizer(
    config: ConfigDict, steps_per_epoch: int, rate_factor: float = 1.0
) -> optax.GradientTransformation:
    """The optimizer of a run; :func:`last_learning_rate` reads its state.

    With rate lr, decay d and weights w, for every parameter alike, biases and scales included
    (``optimizer.decay_mask`` names those that decay, ``freeze`` those that do not change, and
    ``plasticity.dale`` those that keep their signs):

    - ``adamw``: ``w -= lr * d * w``, apart from Adam's update with betas 0.9 and 0.999, epsilon
      1e-8 (appendix B);
    - ``sgd``: the decay is part of the gradient, ``g += d * w``; with momentum m it is added to the
      buffer ``b = m * b + g`` and ``w -= lr * b``.

    The rate is a function of the updates done, from :func:`step_decay`.

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
