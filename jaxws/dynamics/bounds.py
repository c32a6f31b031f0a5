"""The ingredients of Theorem 1 (A.3): how fast noisy updates converge, and how near.

The proof is followed with three corrections. Eq. (44) has lost a factor 2 before eta sigma^2
|W*|^2, which twice Eq. (42) has; the condition before Eq. (55) lacks |W*|^2 on its right; and in
Eq. (57) the product must run over the steps after t, from t + 1 to k. The last two matter for the
unrolled sum only, which is not used here: the recursion is computed as it stands.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxws.dynamics.checks import check_above_zero, check_at_least


def gaussian_fourth_moment(
    mean: Float[Array, "d"],
    covariance: Float[Array, "d d"],
    noise_variance: Float[Array, ""] | float = 0.0,
) -> Float[Array, ""]:
    """c_x_eps of Eq. (29) for Gaussian inputs: ``E |x + eps|^4``, averaged over inputs too.

    With S = covariance + sigma^2 I, it is ``(tr S + |mean|^2)^2 + 2 tr S^2 + 4 mean . S mean``. The
    first half of Eq. (29) follows from the second. No constant bounds every single input, as Eq.
    (29) asks, since Gaussian ones are unbounded; the proof only uses it averaged over them.

    Args:
      mean: of the inputs, shape (d,).
      covariance: of the inputs about their mean, shape (d, d).
      noise_variance: sigma^2 of each component of the noise.

    Returns:
      A scalar.

    Raises:
      ValueError: a negative variance.

    Example:
      >>> gaussian_fourth_moment(jnp.zeros(1), jnp.eye(1))  # of a normal variable
      Array(3., dtype=float32)
    """
    check_at_least("noise_variance", noise_variance)
    seen = covariance + noise_variance * jnp.eye(len(covariance), dtype=covariance.dtype)
    square = jnp.trace(seen) + mean @ mean
    return jnp.square(square) + 2 * jnp.sum(jnp.square(seen)) + 4 * mean @ seen @ mean


def largest_contracting_rate(
    gamma: float, fourth_moment: Float[Array, ""] | float
) -> Float[Array, ""] | float:
    """The rate below which Eq. (53) contracts: gamma / (8 (2 c_x_eps + gamma^2)).

    Args:
      gamma: pull towards the start, above 0.
      fourth_moment: c_x_eps.

    Returns:
      A rate.

    Raises:
      ValueError: gamma that is not above 0, or a negative moment.

    Example:
      >>> largest_contracting_rate(1.0, 3.0)
      0.017857142857142856
    """
    check_above_zero("gamma", gamma)
    check_at_least("fourth_moment", fourth_moment)
    return gamma / (8 * (2 * fourth_moment + gamma**2))


def largest_noise_limited_rate(
    gamma: float,
    fourth_moment: Float[Array, ""] | float,
    noise_variance: float,
    optimum_norm: Float[Array, ""] | float,
    initial_norm: Float[Array, ""] | float,
) -> Float[Array, ""] | float:
    """The rate below which noise outweighs the variance of SGD, the condition before Eq. (55).

    Printed, its right side is sigma^2; for (55) to follow from (54) it must be ``sigma^2 |W*|^2``.

    Args:
      gamma: pull towards the start, above 0.
      fourth_moment: c_x_eps.
      noise_variance: sigma^2.
      optimum_norm: ``|W*|^2``, squared Frobenius norm of the fixed point (19).
      initial_norm: ``|W_init|^2``.

    Returns:
      ``sigma^2 |W*|^2 / (8 (2 c_x_eps + gamma^2) |W*|^2 + 4 gamma^2 |W_init|^2)``.

    Raises:
      ValueError: numbers out of range.

    Example:
      >>> largest_noise_limited_rate(1.0, 3.0, 0.1, 2.0, 2.0)
      0.0016666666666666668
    """
    check_above_zero("gamma", gamma)
    for name, value in (("fourth_moment", fourth_moment), ("noise_variance", noise_variance)):
        check_at_least(name, value)
    extra = 8 * (2 * fourth_moment + gamma**2) * optimum_norm + 4 * gamma**2 * initial_norm
    return noise_variance * optimum_norm / extra


def error_bound(
    learning_rates: Float[Array, "steps"],
    gamma: float,
    fourth_moment: Float[Array, ""] | float,
    noise_variance: float,
    optimum_norm: Float[Array, ""] | float,
    initial_norm: Float[Array, ""] | float,
    initial_error: Float[Array, ""] | float,
) -> Float[Array, "steps"]:
    """The proof's bound on ``E |W - W*|^2`` after every step: the recursion of Eqs. (53), (54).

    It holds for any rates. Where a rate is below :func:`largest_noise_limited_rate` its last two
    terms sum to ``3 eta sigma^2 |W*|^2`` at most, which stands where Eq. (55) has 2.

    Args:
      learning_rates: eta_k, shape (steps,).
      gamma: pull towards the start, above 0.
      fourth_moment: c_x_eps.
      noise_variance: sigma^2.
      optimum_norm: ``|W*|^2``.
      initial_norm: ``|W_init|^2``.
      initial_error: ``|W_init - W*|^2``.

    Returns:
      Bounds after each step, shape (steps,).

    Raises:
      ValueError: numbers out of range.

    Example:
      >>> error_bound(jnp.full(2, 0.01), 1.0, 3.0, 0.0, 0.0, 0.0, 1.0)
      Array([0.9956    , 0.99121934], dtype=float32)
    """
    check_above_zero("gamma", gamma)
    for name, value in (("fourth_moment", fourth_moment), ("noise_variance", noise_variance)):
        check_at_least(name, value)
    growth = 8 * (2 * fourth_moment + gamma**2)
    variance = growth * optimum_norm + 4 * gamma**2 * initial_norm

    def step(
        bound: Float[Array, ""], rate: Float[Array, ""]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        kept = (1 - gamma * rate + rate**2 * growth) * bound
        bound = kept + 2 * rate * noise_variance * optimum_norm + rate**2 * variance
        return bound, bound

    start = jnp.asarray(initial_error, learning_rates.dtype)
    return lax.scan(step, start, learning_rates)[1]
