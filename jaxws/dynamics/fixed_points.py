"""Where the rules lead: closed forms of A.1, A.2 and A.5, and what noise makes of them."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxws.dynamics.checks import check_above_zero, check_at_least, check_weights
from jaxws.dynamics.rules import inhibition_share


def second_moment(inputs: Float[Array, "M d"]) -> Float[Array, "d d"]:
    """C = (1/M) sum_m x_m x_m^T, which the paper calls the covariance; the mean is not subtracted.

    Args:
      inputs: shape (M, d).

    Returns:
      Shape (d, d).

    Example:
      >>> second_moment(jnp.array([[1.0], [3.0]]))
      Array([[5.]], dtype=float32)
    """
    return inputs.T @ inputs / len(inputs)


def gaussian_second_moment(size: int, mean: float = 1.0) -> Float[Array, "{size} {size}"]:
    """C of inputs whose components are N(mean, 1) and independent: I + mean^2 1 1^T.

    Args:
      size: d, number of inputs.
      mean: of every component; A.5 has 1.

    Returns:
      Shape (d, d).

    Example:
      >>> gaussian_second_moment(2)
      Array([[2., 1.],
             [1., 2.]], dtype=float32)
    """
    return jnp.eye(size) + mean**2


def fixed_point_mean(
    mean: Float[Array, "d"],
    covariance: Float[Array, "d d"],
    gamma: Float[Array, ""] | float,
    *,
    alpha: float = math.inf,
) -> Float[Array, "d"]:
    """The mean weight in the end: Eq. (15), unchanged, or with inhibition's bias that of (23).

    Args:
      mean: of the initial weights over neurons, shape (d,).
      covariance: C, shape (d, d).
      gamma: pull towards the start, above 0.
      alpha: strength of inhibition; infinite for the rule (13).

    Returns:
      ``gamma (C / (1 + alpha) + gamma I)^-1 mean``, shape (d,). The response to an input is its
      product with that, Eq. (16).

    Raises:
      ValueError: gamma that is not above 0, or alpha < 0.

    Example:
      >>> fixed_point_mean(jnp.ones(1), jnp.eye(1), gamma=0.5, alpha=1.0)
      Array([0.5], dtype=float32)
    """
    check_above_zero("gamma", gamma)
    leak = 1 - inhibition_share(alpha)
    matrix = leak * covariance / gamma + _identity(covariance)
    end: Float[Array, "d"] = jnp.linalg.solve(matrix, mean)
    return end


def fixed_point(
    initial: Float[Array, "N d"],
    covariance: Float[Array, "d d"],
    gamma: Float[Array, ""] | float,
    *,
    alpha: float = math.inf,
) -> Float[Array, "N d"]:
    """The weights in the end: Eq. (19) for the rule (13), Eq. (24) for the rule (21).

    Args:
      initial: weights at the start, shape (N, d).
      covariance: C, shape (d, d).
      gamma: pull towards the start, above 0.
      alpha: strength of inhibition; infinite for the rule (13).

    Returns:
      ``(C + gamma I)^-1 (alpha / (1 + alpha) C mean* + gamma w_i_init)``, shape (N, d), where mean*
      is :func:`fixed_point_mean`. For C = I it is Eq. (20), or (25).

    Raises:
      ValueError: shapes that do not agree, gamma that is not above 0, or alpha < 0.

    Example:
      >>> fixed_point(jnp.array([[0.0], [2.0]]), jnp.eye(1), gamma=1.0).ravel()
      Array([0.5, 1.5], dtype=float32)
    """
    check_weights(initial, covariance)
    mean = fixed_point_mean(jnp.mean(initial, axis=0), covariance, gamma, alpha=alpha)
    target = inhibition_share(alpha) * (covariance @ mean)[None] + gamma * initial
    ends: Float[Array, "d N"] = jnp.linalg.solve(
        covariance + gamma * _identity(covariance), target.T
    )
    return ends.T


def isotropic_fixed_point(
    initial: Float[Array, "N d"], gamma: float, *, alpha: float = math.inf
) -> Float[Array, "N d"]:
    """The weights in the end for C = I: Eq. (20) for the rule (13), Eq. (25) for the rule (21).

    Args:
      initial: weights at the start, shape (N, d).
      gamma: pull towards the start, above 0.
      alpha: strength of inhibition; infinite for the rule (13).

    Returns:
      ``gamma / (1 + gamma) (alpha / (1 + gamma (1 + alpha)) mean + w_i_init)``, shape (N, d).

    Raises:
      ValueError: weights of another shape, gamma that is not above 0, or alpha < 0.

    Example:
      >>> isotropic_fixed_point(jnp.array([[0.0], [2.0]]), gamma=1.0).ravel()
      Array([0.5, 1.5], dtype=float32)
    """
    check_weights(initial)
    check_above_zero("gamma", gamma)
    share = inhibition_share(alpha)
    # alpha / (1 + gamma (1 + alpha)), divided by 1 + alpha, which may be infinite.
    scale = share / (1 - share + gamma)
    return gamma / (1 + gamma) * (scale * jnp.mean(initial, axis=0, keepdims=True) + initial)


def neg_log_snr_min(
    gamma: Float[Array | np.ndarray, "*gammas"] | float, *, alpha: float = math.inf
) -> Float[Array, "*gammas"]:
    """A.5's -log SNR in the end, where C = I and initial weights are N(1, 1).

    ``2 log(gamma / (1 + gamma))`` as printed, for the rule (13). With inhibition's bias, by the
    same argument from Eq. (25), ``2 log((1 + gamma (1 + alpha)) / ((1 + alpha) (1 + gamma)))``,
    which is larger: the mean shrinks while the variance is the same.

    Args:
      gamma: pull towards the start.
      alpha: strength of inhibition; infinite for the rule (13).

    Returns:
      Natural logarithm, of the shape of gamma.

    Raises:
      ValueError: gamma that is not above 0, or alpha < 0.

    Example:
      >>> print(f"{neg_log_snr_min(0.001):.2f}, {neg_log_snr_min(0.001, alpha=10.0):.2f}")
      -13.82, -4.78
    """
    check_above_zero("gamma", gamma)
    leak = 1 - inhibition_share(alpha)
    return 2 * jnp.log((leak + gamma) / (1 + gamma))


def noisy_fixed_point(
    initial: Float[Array, "N d"],
    covariance: Float[Array, "d d"],
    gamma: float,
    noise_variance: float,
    *,
    alpha: float = math.inf,
) -> Float[Array, "N d"]:
    """Where rule (28) leads on average, with isotropic noise of each neuron's own.

    Not in the paper. In expectation, noise adds ``sigma^2 (1 - share / N) w_i`` to the gradient,
    with share = alpha / (1 + alpha), as weight decay would; it pulls the mean towards 0 too. What
    Theorem 1 bounds tends to the squared distance of this point from :func:`fixed_point`.

    Args:
      initial: weights at the start, shape (N, d).
      covariance: C of the inputs without noise, shape (d, d).
      gamma: pull towards the start, above 0.
      noise_variance: sigma^2 of each component.
      alpha: strength of inhibition; infinite for the rule (13).

    Returns:
      Shape (N, d).

    Raises:
      ValueError: as :func:`fixed_point`, or a negative variance.

    Example:
      >>> same = jnp.ones((2, 1))  # equal weights already: only the noise moves them
      >>> noisy_fixed_point(same, jnp.eye(1), gamma=0.5, noise_variance=1.0).ravel()
      Array([0.5, 0.5], dtype=float32)
    """
    check_weights(initial, covariance)
    check_above_zero("gamma", gamma)
    check_at_least("noise_variance", noise_variance)
    decay = gamma + noise_variance * (1 - inhibition_share(alpha) / len(initial))
    # All of the equations but the pull towards the start have decay in the place of gamma.
    return gamma / decay * fixed_point(initial, covariance, decay, alpha=alpha)


def _identity(matrix: Float[Array, "d d"]) -> Float[Array, "d d"]:
    return jnp.eye(len(matrix), dtype=matrix.dtype)
