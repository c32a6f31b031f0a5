"""Following a rule of :mod:`jaxws.dynamics.rules` with any optimizer, one input at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float

from jaxws.dynamics.checks import check_above_zero, check_at_least, check_weights
from jaxws.dynamics.rules import hebbian_update, inhibition_share
from jaxws.dynamics.schedules import rule_learning_rate
from jaxws.dynamics.snr import neg_log_snr


class Descent(NamedTuple):
    """Where a descent is; what :func:`descend` continues from.

    Attributes:
      weights: shape (N, d).
      optimizer_state: of optax.
    """

    weights: Float[Array, "*runs N d"]
    optimizer_state: Any


def momentum_sgd(
    learning_rate: Callable[[jax.Array], jax.Array] | float = rule_learning_rate,
    momentum: float = 0.95,
) -> optax.GradientTransformation:
    """The optimizer of A.5.

    Args:
      learning_rate: a number or a schedule.
      momentum: what is kept of the last update.

    Returns:
      Of optax.

    Example:
      >>> import jax.numpy as jnp
      >>> _ = momentum_sgd().init(jnp.ones((2, 3)))
    """
    return optax.sgd(learning_rate, momentum)


def begin(weights: Float[Array, "N d"], optimizer: optax.GradientTransformation) -> Descent:
    """The start of a descent.

    Args:
      weights: shape (N, d).
      optimizer: of optax.

    Returns:
      A state for :func:`descend`.

    Raises:
      ValueError: weights of another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> begin(jnp.ones((2, 3)), momentum_sgd()).weights.shape
      (2, 3)
    """
    check_weights(weights)
    return Descent(weights, optimizer.init(weights))


def descend(
    state: Descent,
    initial: Float[Array, "N d"],
    inputs: Float[Array, "iterations *M d"],
    optimizer: optax.GradientTransformation,
    *,
    gamma: Float[Array, ""] | float,
    alpha: Float[Array, ""] | float = math.inf,
    noise_std: Float[Array, ""] | float = 0.0,
    key: jax.Array | None = None,
    record: Callable[[jax.Array], Any] = neg_log_snr,
    record_every: int = 1,
) -> tuple[Descent, Any]:
    """Applies rule (13), (21) or (28) to one input, or batch of inputs, after the other.

    Pure; ``vmap`` it over trials, gammas or keys.

    Args:
      state: of :func:`begin`, or of the last call.
      initial: weights that gamma pulls towards, shape (N, d).
      inputs: shape (iterations, d), or (iterations, M, d) for batches of M.
      optimizer: of optax; its updates are those of a gradient of minus the rule.
      gamma: strength of the pull.
      alpha: strength of inhibition, Eq. (21); infinite for Eq. (13).
      noise_std: sigma of Eq. (28), a number; 0 for none.
      key: random key of the noise, if there is any.
      record: what to keep of the weights.
      record_every: number of iterations from one record to the next; divides iterations.

    Returns:
      The state after all inputs, and records, with a leading axis of iterations / record_every.

    Raises:
      ValueError: shapes that do not agree, numbers out of range, noise without a key.

    Example:
      >>> weights = jax.random.normal(jax.random.key(0), (100, 9)) + 1
      >>> inputs = jax.random.normal(jax.random.key(1), (2000, 9))
      >>> optimizer = momentum_sgd()
      >>> _, curve = descend(begin(weights, optimizer), weights, inputs, optimizer, gamma=0.1)
      >>> curve.shape, bool(curve[-1] < -4)
      ((2000,), True)
    """
    check_weights(initial, inputs)
    check_weights(state.weights, inputs)
    check_at_least("gamma", gamma)
    inhibition_share(alpha)  # checks it
    check_at_least("noise_std", noise_std)
    check_above_zero("record_every", record_every)
    if len(inputs) % record_every:
        raise ValueError(
            f"record_every={record_every}: expected a divisor of the {len(inputs)} iterations."
        )
    if key is None and (isinstance(noise_std, jax.core.Tracer) or np.any(np.asarray(noise_std))):
        raise ValueError(f"noise_std={noise_std!r} without a key: give key=jax.random.key(seed).")
    keys = None if key is None else jax.random.split(key, len(inputs))

    def update(state: Descent, now: tuple[jax.Array, jax.Array | None]) -> tuple[Descent, None]:
        x, step_key = now
        noise = None
        if step_key is not None:
            shape = (*x.shape[:-1], *initial.shape)
            noise = noise_std * jax.random.normal(step_key, shape, initial.dtype)
        step = hebbian_update(state.weights, initial, x, gamma, alpha=alpha, noise=noise)
        change, optimizer_state = optimizer.update(-step, state.optimizer_state, state.weights)
        weights = optax.apply_updates(state.weights, change)
        return Descent(weights, optimizer_state), None

    def block(state: Descent, now: tuple[jax.Array, jax.Array | None]) -> tuple[Descent, Any]:
        state, _ = lax.scan(update, state, now)
        return state, record(state.weights)

    blocks = jax.tree.map(lambda a: a.reshape(-1, record_every, *a.shape[1:]), (inputs, keys))
    return lax.scan(block, state, blocks)
