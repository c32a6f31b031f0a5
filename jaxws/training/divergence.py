"""What is done about a loss or weights that are not finite: ``config.divergence``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxws.parallel.compiled import Together

DIVERGED, ROLLBACK = "diverged", "rollback"  # events in metrics.jsonl: the run ends, or goes back


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

    @property
    def last_record(self) -> dict[str, Any]:
        """What metrics.jsonl has of a run that ends so; a run that goes on drops later steps."""
        return {"kind": "event", "step": self.step, "event": DIVERGED, "message": str(self)}


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
      jaxws.training.divergence.Diverged: the loss is inf at step 2
    """
    if not math.isfinite(value):
        raise Diverged(f"the {name} is {value}", step)


@Together
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


def check_skipped(in_a_row: int, limit: int, step: int) -> None:
    """Counts steps that changed nothing because gradients or loss were not finite.

    Args:
      in_a_row: number of the last steps that were skipped.
      limit: so many are too many.
      step: number of steps done.

    Raises:
      Diverged: too many in a row.

    Example:
      >>> check_skipped(1, limit=2, step=3)
      >>> check_skipped(2, limit=2, step=4)
      Traceback (most recent call last):
      jaxws.training.divergence.Diverged: 2 steps in a row were skipped as not finite, the
      last one at step 4
    """
    if in_a_row >= limit:
        raise Diverged(f"{in_a_row} steps in a row were skipped as not finite, the last one", step)


class DivergencePolicy:
    """What ``config.divergence`` says, and what has been done so far.

    Rollbacks are events in the history of a run, which checkpoints and metrics.jsonl carry; so a
    run that resumes from a step knows those before it, and repeats those after it.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> config = base_config().divergence
      >>> config.action = "rollback"
      >>> policy = DivergencePolicy(config)
      >>> policy.rate_factor([{"kind": "event", "event": "rollback"}])
      0.5
    """

    def __init__(self, config: ConfigDict):
        """Reads the configuration.

        Args:
          config: ``config.divergence``.
        """
        self._rolls_back = config.action == "rollback"
        self._factor, self._most = config.rate_factor, config.max_rollbacks

    def rate_factor(self, history: Iterable[Mapping[str, Any]]) -> float:
        """What the learning rate is multiplied by after the rollbacks so far.

        Args:
          history: records of metrics.jsonl.

        Returns:
          The factor.
        """
        return self._factor ** _rollbacks(history)

    def handle(
        self, diverged: Diverged, history: Iterable[Mapping[str, Any]], checkpoint: int | None
    ) -> str:
        """Decides what to do about a divergence.

        Args:
          diverged: what happened.
          history: records of metrics.jsonl.
          checkpoint: step of the newest checkpoint, all of which are finite; None for none.

        Returns:
          What to note about a rollback to that checkpoint.

        Raises:
          FloatingPointError: the run ends here; in one line that says what to do.
        """
        done = _rollbacks(history)
        if self._rolls_back and done < self._most:
            back = "the start" if checkpoint is None else f"the checkpoint of step {checkpoint}"
            return (
                f"{diverged}: back to {back}, with the learning rate times {self._factor} from"
                f" there (rollback {done + 1} of at most {self._most})"
            )
        last = "No checkpoint had been written"
        if checkpoint is not None:
            last = f"The last good checkpoint is of step {checkpoint}"
        remedy = "Lower --config.optimizer.learning_rate, with another --workdir"
        if not self._rolls_back:
            remedy += ", or go on here with --config.divergence.action=rollback"
        after = f" after {done} rollbacks" if done else ""
        raise FloatingPointError(f"{diverged}: the run has diverged{after}. {last}. {remedy}.")


def _rollbacks(history: Iterable[Mapping[str, Any]]) -> int:
    return sum(record.get("event") == ROLLBACK for record in history)
