"""The learning rates of A.5, and when in a presentation weights change."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxws.dynamics.checks import check_above_zero, check_at_least

COUNTERS = ("step", "presentation", "step_of_presentation")
MOMENTS = ("every_step", "presentation_end")


def rule_learning_rate(iteration: Shaped[Array, ""] | int) -> Float[Array, ""]:
    """The rate of Figs 4A and 5A: eta_k = 0.5 / (1000 + k). An optax schedule.

    Args:
      iteration: k, from 0.

    Returns:
      The rate.

    Example:
      >>> float(rule_learning_rate(1000))
      0.0002500000118743628
    """
    return 0.5 / (1000.0 + jnp.asarray(iteration, jnp.result_type(float)))


class Plasticity(NamedTuple):
    """When weights of the circuit change: at rates eta_k = scale / sqrt(1 + k / 2), k >= onset.

    Attributes:
      scale: of the rate.
      onset: from which k on weights change; before it the rate is 0.
      counter: what k counts: ``'step'`` (of Euler's method since the beginning, so milliseconds),
        ``'presentation'`` (iterations, as the text reads), or ``'step_of_presentation'``. The
        first is the only one of which Figs 4B and 5B come out: see docs/dynamics.md.
      moment: ``'every_step'`` of Euler's method, or ``'presentation_end'``, once.
    """

    scale: float = 3e-4
    onset: int = 50
    counter: str = "step"
    moment: str = "every_step"


def check_plasticity(plasticity: Plasticity) -> None:
    """Checks when weights change.

    Args:
      plasticity: to check.

    Raises:
      ValueError: something is out of range.

    Example:
      >>> check_plasticity(Plasticity(counter="hour"))
      Traceback (most recent call last):
      ValueError: counter='hour': expected one of
      ('step', 'presentation', 'step_of_presentation').
    """
    check_above_zero("scale", plasticity.scale)
    check_at_least("onset", plasticity.onset)
    for name, known in (("counter", COUNTERS), ("moment", MOMENTS)):
        if getattr(plasticity, name) not in known:
            raise ValueError(f"{name}={getattr(plasticity, name)!r}: expected one of {known}.")


def circuit_learning_rates(
    presentations: Int[np.ndarray, "presentations"], steps: int, plasticity: Plasticity
) -> Float[np.ndarray, "presentations {steps}"]:
    """The rate in every step of presentations.

    Args:
      presentations: their numbers, from 0, shape (p,).
      steps: of Euler's method in each.
      plasticity: when and how fast weights change.

    Returns:
      Rates, float64 (p, steps).

    Raises:
      ValueError: something is out of range.

    Example:
      >>> circuit_learning_rates(np.arange(48, 52), 1, Plasticity()).ravel().round(8)
      array([0.000e+00, 0.000e+00, 5.883e-05, 5.828e-05])
    """
    check_plasticity(plasticity)
    presentation, step = np.asarray(presentations)[:, None], np.arange(steps)
    k = {
        "presentation": presentation + 0 * step,
        "step": presentation * steps + step,
        "step_of_presentation": 0 * presentation + step,
    }[plasticity.counter]
    return np.where(k >= plasticity.onset, plasticity.scale / np.sqrt(1 + k / 2), 0.0)


def plastic_steps(steps: int, plasticity: Plasticity) -> Bool[np.ndarray, "{steps}"]:
    """In which steps of a presentation weights change.

    Args:
      steps: of Euler's method in a presentation.
      plasticity: when weights change.

    Returns:
      Booleans, shape (steps,).

    Raises:
      ValueError: something is out of range.

    Example:
      >>> plastic_steps(3, Plasticity(moment="presentation_end"))
      array([False, False,  True])
    """
    check_plasticity(plasticity)
    plastic = np.full(steps, plasticity.moment == "every_step")
    plastic[-1] = True
    return plastic
