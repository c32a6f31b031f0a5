"""Numbers that make no sense, found before they are computed with."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def check_at_least(name: str, value: Any, least: float = 0.0, *, infinite_ok: bool = False) -> None:
    """Checks a number that is known; of a traced one nothing can be said.

    Args:
      name: of the argument, for the message.
      value: a number, or an array of numbers.
      least: the smallest that it may be.
      infinite_ok: whether it may be infinite.

    Raises:
      ValueError: it is smaller, NaN, or infinite where that is not allowed.

    Example:
      >>> check_at_least("gamma", -0.1)
      Traceback (most recent call last):
      ValueError: gamma=-0.1: expected at least 0.
    """
    if isinstance(value, jax.core.Tracer):
        return
    if not np.all(np.asarray(value) >= least):
        raise ValueError(f"{name}={value!r}: expected at least {least:g}.")
    if not infinite_ok:
        _check_finite(name, value)


def check_above_zero(name: str, value: Any) -> None:
    """Checks a number that is known; of a traced one nothing can be said.

    Args:
      name: of the argument, for the message.
      value: a number, or an array of numbers.

    Raises:
      ValueError: it is 0, smaller, NaN or infinite.

    Example:
      >>> check_above_zero("tau", 30.0)
    """
    if isinstance(value, jax.core.Tracer):
        return
    if not np.all(np.asarray(value) > 0):
        raise ValueError(f"{name}={value!r}: expected a number above 0.")
    _check_finite(name, value)


def _check_finite(name: str, value: Any) -> None:
    if not np.all(np.isfinite(np.asarray(value))):
        raise ValueError(f"{name}={value!r}: expected a finite number.")


def check_weights(weights: Any, inputs: Any = None) -> None:
    """Checks the shapes of weights and of what they are multiplied with.

    Args:
      weights: shape (N, d).
      inputs: shape (..., d), or None.

    Raises:
      ValueError: there is no axis of neurons, or the number of inputs differs.

    Example:
      >>> check_weights(np.ones((100, 9)), np.ones(9))
    """
    if np.ndim(weights) != 2:
        raise ValueError(
            f"weights of shape {np.shape(weights)}: expected (N, d), one row per neuron; use vmap"
            " for several pools."
        )
    if inputs is not None and np.shape(inputs)[-1:] != np.shape(weights)[1:]:
        raise ValueError(
            f"inputs of shape {np.shape(inputs)} for weights of shape {np.shape(weights)}: expected"
            " the last axes to agree."
        )
