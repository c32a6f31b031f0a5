"""Signal-to-noise ratio of one pool's weights, Eq. (6), and what is plotted of it."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxws.core.snr import signal_to_noise
from jaxws.dynamics.checks import check_weights


def pool_snr(weights: Float[Array, "N d"]) -> Float[Array, ""]:
    """Eq. (6): the mean over inputs of squared mean over variance, both over neurons.

    Args:
      weights: of one pool, shape (N, d).

    Returns:
      A scalar; infinite, never NaN, where all neurons have the same weight for some input, as if
      there were nothing left to share. NaN only if weights are.

    Raises:
      ValueError: weights of another shape.

    Example:
      >>> pool_snr(jnp.array([[1.0, 2.0], [3.0, 4.0]])), pool_snr(jnp.ones((3, 2)))
      (Array(6.5, dtype=float32), Array(inf, dtype=float32))
    """
    mean, variance = _moments(weights)
    return jnp.mean(signal_to_noise(mean, variance))


def neg_log_snr(weights: Float[Array, "N d"]) -> Float[Array, ""]:
    """-log SNR of Eq. (6), which Figs 4 and 5 show: the lower, the better shared.

    Args:
      weights: of one pool, shape (N, d).

    Returns:
      A scalar, natural logarithm; -inf where the SNR is infinite.

    Raises:
      ValueError: weights of another shape.

    Example:
      >>> neg_log_snr(jnp.array([[0.0], [2.0]]))
      Array(-0., dtype=float32)
    """
    return -jnp.log(pool_snr(weights))


def log_mean_inverse_snr(weights: Float[Array, "N d"]) -> Float[Array, ""]:
    """Another measure: log of the mean over inputs of variance over squared mean.

    Eq. (6) averages the ratio and then inverts it, this the inverse ratio; by Jensen's inequality
    it is never below :func:`neg_log_snr`. It is what the authors' simulation code plots.

    Args:
      weights: of one pool, shape (N, d).

    Returns:
      A scalar, natural logarithm; -inf where all neurons agree exactly, inf where some mean is 0
      and its variance is not.

    Raises:
      ValueError: weights of another shape.

    Example:
      >>> log_mean_inverse_snr(jnp.array([[0.0], [2.0]]))
      Array(0., dtype=float32)
    """
    mean, variance = _moments(weights)
    inverse = jnp.where(variance == 0, 0, variance / jnp.square(mean))
    return jnp.log(jnp.mean(inverse))


def _moments(weights: Float[Array, "N d"]) -> tuple[Float[Array, "d"], Float[Array, "d"]]:
    """Mean and variance over neurons, relative to one of them: equal weights have exactly 0."""
    check_weights(weights)
    relative = weights - weights[:1]
    mean = jnp.mean(relative, axis=0, keepdims=True)
    return (weights[:1] + mean)[0], jnp.mean(jnp.square(relative - mean), axis=0)
