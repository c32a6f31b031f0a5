"""The objective of dynamic weight sharing and the plasticity rules that descend it (A.1 to A.3).

N neurons with weights w_i see inputs x. The rules make their responses z_i = w_i . x equal, and so
their weights; gamma pulls the weights towards where they were. One function covers the rules
without inhibition's bias (13), with it (21), and with noise of each neuron's own (28).
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxws.dynamics.checks import check_at_least, check_weights


def objective(
    weights: Float[Array, "N d"],
    initial: Float[Array, "N d"],
    inputs: Float[Array, "*M d"],
    gamma: Float[Array, ""] | float,
) -> Float[Array, ""]:
    """Eqs. (11), (12): how much responses differ between neurons, and weights from their start.

    Args:
      weights: shape (N, d).
      initial: weights that gamma pulls towards, shape (N, d).
      inputs: one, of shape (d,), or M of them, (M, d).
      gamma: strength of the pull.

    Returns:
      A scalar, ``1 / (4 M N) sum_mij (z_i - z_j)^2 + gamma / 2 sum_i |w_i - w_i_init|^2``.

    Raises:
      ValueError: shapes that do not agree, or gamma < 0.

    Example:
      >>> weights = jnp.array([[0.0], [2.0]])
      >>> objective(weights, weights, jnp.array([1.0]), gamma=0.1)
      Array(1., dtype=float32)
    """
    check_weights(weights, inputs)
    check_at_least("gamma", gamma)
    responses = weights @ jnp.atleast_2d(inputs).T  # (N, M)
    # A sum over pairs is 2 N times the sum of squared distances from the mean.
    spread = jnp.square(responses - jnp.mean(responses, axis=0, keepdims=True))
    pull = jnp.sum(jnp.square(weights - initial))
    return jnp.sum(spread) / (2 * responses.shape[1]) + gamma / 2 * pull


def hebbian_update(
    weights: Float[Array, "N d"],
    initial: Float[Array, "N d"],
    inputs: Float[Array, "*M d"],
    gamma: Float[Array, ""] | float,
    *,
    alpha: Float[Array, ""] | float = math.inf,
    noise: Float[Array, "*M N d"] | None = None,
) -> Float[Array, "N d"]:
    """The update of Eqs. (13), (21) and (28), to be multiplied with a learning rate.

    Without noise and with infinite alpha it is minus the gradient of :func:`objective`.

    Args:
      weights: shape (N, d).
      initial: weights that gamma pulls towards, shape (N, d).
      inputs: one, of shape (d,), or M of them, (M, d), whose updates are averaged.
      gamma: strength of the pull.
      alpha: strength of inhibition, Eq. (21); infinite for Eq. (13).
      noise: what each neuron sees besides the input, Eq. (28): shape (N, d), or (M, N, d).

    Returns:
      ``-(z_i - alpha / (1 + alpha) mean_j z_j) x - gamma (w_i - w_i_init)``, shape (N, d); with
      noise, x is x + noise_i throughout.

    Raises:
      ValueError: shapes that do not agree, gamma < 0 or alpha < 0.

    Example:
      >>> weights = jnp.array([[0.0], [2.0]])
      >>> hebbian_update(weights, weights, jnp.array([1.0]), gamma=0.1).ravel()
      Array([ 1., -1.], dtype=float32)
    """
    check_weights(weights, inputs)
    check_at_least("gamma", gamma)
    seen = jnp.atleast_2d(inputs)
    inhibited = inhibition_share(alpha)
    if noise is None:
        responses = weights @ seen.T  # (N, M)
        responses = responses - inhibited * jnp.mean(responses, axis=0, keepdims=True)
        hebbian = responses @ seen / len(seen)
    else:
        _check_noise(noise, weights, inputs)
        each = seen[:, None] + noise.reshape(-1, *weights.shape)  # (M, N, d)
        per_neuron = jnp.einsum("mnd,nd->mn", each, weights)
        per_neuron = per_neuron - inhibited * jnp.mean(per_neuron, axis=1, keepdims=True)
        hebbian = jnp.einsum("mn,mnd->nd", per_neuron, each) / len(seen)
    return -hebbian - gamma * (weights - initial)


def inhibition_share(alpha: Float[Array, ""] | float) -> Float[Array, ""] | float:
    """alpha / (1 + alpha): how much of the mean response inhibition takes away.

    Args:
      alpha: strength of inhibition, at least 0; may be infinite.

    Returns:
      A number from 0 to 1.

    Raises:
      ValueError: alpha < 0.

    Example:
      >>> inhibition_share(4.0), inhibition_share(math.inf)
      (0.8, 1.0)
    """
    check_at_least("alpha", alpha, infinite_ok=True)
    return 1 - 1 / (1 + alpha)


def _check_noise(
    noise: Float[Array, "..."], weights: Float[Array, "N d"], inputs: Float[Array, "*M d"]
) -> None:
    expected = (*jnp.shape(inputs)[:-1], *weights.shape)
    if noise.shape != expected:
        raise ValueError(
            f"noise of shape {noise.shape}: expected {expected}, its own for every neuron and"
            " input."
        )
