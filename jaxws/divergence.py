"""What is done about a loss or weights that are not finite: ``config.divergence``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

ROLLBACK = "rollback"  # the event in metrics.jsonl


class Diverged(FloatingPointError):
    """Training has diverged.

    Attributes:
      step: number of steps done.

    Example:
      >>> str(Diverged("the loss is nan", step=7))
      'the loss is nan at step 7'
    """

    def __init__(self, what: str, step: int):
        """Says what was seen.

        Args:
          what: and what it is.
          step: number of steps done.
        """
        self.step = step
        super().__init__(f"{what} at step {step}")


def check_finite(name: str, value: float, step: int) -> None:
    """Raises if a number is not finite.

    Args:
      name: of the number.
      value: the number.
      step: number of steps done.

    Raises:
      Diverged: it is not.

    Example:
      >>> check_finite("loss", 2.3, step=1)
      >>> check_finite("loss", float("inf"), step=2)
      Traceback (most recent call last):
      jaxws.divergence.Diverged: the loss is inf at step 2
    """
    if not math.isfinite(value):
        raise Diverged(f"the {name} is {value}", step)


@jax.jit
def all_finite(state: Any) -> jax.Array:
    """Whether every number in a state is finite; one pass over it, on the device.

    Args:
      state: any pytree; integers are finite.

    Returns:
      A bool.

    Example:
      >>> bool(all_finite({"w": jnp.ones(3), "step": jnp.asarray(1)}))
      True
      >>> bool(all_finite({"w": jnp.array([1.0, jnp.nan])}))
      False
    """
    floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.stack([jnp.array(True), *(jnp.isfinite(x).all() for x in floats)]).all()


class SkippedSteps:
    """Counts steps that changed nothing because gradients or loss were not finite, in a row.

    Example:
      >>> skipped = SkippedSteps(limit=2)
      >>> skipped.count(True, step=1)
      >>> skipped.count(False, step=2)
      >>> skipped.count(True, step=3)
      >>> skipped.count(True, step=4)
      Traceback (most recent call last):
      jaxws.divergence.Diverged: 2 steps in a row were skipped as not finite, the last one at step 4
    """

    def __init__(self, limit: int):
        """Starts to count.

        Args:
          limit: so many in a row are too many.
        """
        self._limit, self._row = limit, 0

    def count(self, skipped: bool, step: int) -> None:
        """Counts a step.

        Args:
          skipped: whether it was.
          step: number of steps done.

        Raises:
          Diverged: too many in a row.
        """
        self._row = self._row + 1 if skipped else 0
        if self._row >= self._limit:
            raise Diverged(f"{self._row} steps in a row were skipped as not finite, the last one", step)


def rate_factor(history: Iterable[Mapping[str, Any]], config: ConfigDict) -> float:
    """What the learning rate is multiplied by after the rollbacks so far.

    Args:
      history: records of metrics.jsonl.
      config: ``config.divergence``.

    Returns:
      ``config.rate_factor`` to the power of their number.

    Example:
      >>> from jaxws.config import base_config
      >>> config = base_config().divergence
      >>> rate_factor([{"kind": "event", "event": "rollback"}], config) == config.rate_factor
      True
    """
    return config.rate_factor ** rollbacks(history)


def rollbacks(history: Iterable[Mapping[str, Any]]) -> int:
    """Number of rollbacks so far.

    Args:
      history: records of metrics.jsonl.

    Returns:
      The number.

    Example:
      >>> rollbacks([])
      0
    """
    return sum(record.get("event") == ROLLBACK for record in history)


def verdict(diverged: Diverged, done: int, checkpoint: int | None, config: ConfigDict) -> str | None:
    """What to tell a user whose run ends here; None if it is to be rolled back.

    Args:
      diverged: what happened.
      done: number of rollbacks before.
      checkpoint: step of the last checkpoint, all of which are finite; None if there is none.
      config: ``config.divergence``.

    Returns:
      One line, or None.
    """
    if config.action == "rollback" and done < config.max_rollbacks:
        return None
    last = "No checkpoint had been written"
    if checkpoint is not None:
        last = f"The last good checkpoint is of step {checkpoint}"
    remedy = "Lower --config.optimizer.learning_rate, with another --workdir"
    if config.action != "rollback":
        remedy += ", or go on here with --config.divergence.action=rollback"
    after = f" after {done} rollbacks" if done else ""
    return f"{diverged}: the run has diverged{after}. {last}. {remedy}."
