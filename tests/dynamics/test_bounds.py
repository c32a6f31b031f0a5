"""Theorem 1: its ingredients against sampling, its recursion, and what noisy updates do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxws.dynamics import (
    error_bound,
    gaussian_fourth_moment,
    largest_contracting_rate,
    largest_noise_limited_rate,
)
from jaxws.dynamics.noise_study import NoiseStudy, measure_noise

pytestmark = pytest.mark.usefixtures("strict_promotion")


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def test_fourth_moment_is_that_of_draws(float64):
    rng = np.random.default_rng(0)
    mean, root = np.array([1.0, -0.5, 2.0]), rng.normal(size=(3, 3))
    draws = mean + rng.normal(size=(400_000, 3)) @ root.T
    draws += np.sqrt(0.3) * rng.normal(size=draws.shape)
    fourth = np.sum(draws**2, axis=1) ** 2
    exact = gaussian_fourth_moment(jnp.asarray(mean), jnp.asarray(root @ root.T), 0.3)
    standard_error = fourth.std() / np.sqrt(len(fourth))
    assert abs(fourth.mean() - exact) < 4 * standard_error
    assert np.mean(np.sum(draws**2, axis=1)) <= np.sqrt(exact)  # the first half of (29)


def test_bound_is_the_recursion_of_the_proof(float64):
    rates = 0.01 / (1 + np.arange(5))
    gamma, moment, variance, optimum, initial, bound = 0.7, 2.0, 0.1, 3.0, 4.0, 1.5
    expected = []
    for rate in rates:
        growth = 8 * (2 * moment + gamma**2)
        bound = (1 - gamma * rate + growth * rate**2) * bound + 2 * rate * variance * optimum
        bound += rate**2 * (growth * optimum + 4 * gamma**2 * initial)
        expected.append(bound)
    computed = error_bound(jnp.asarray(rates), gamma, moment, variance, optimum, initial, 1.5)
    np.testing.assert_allclose(computed, expected, rtol=1e-12)


def test_unrolled_bound_needs_the_later_factors(float64):
    """(57) as printed multiplies the factors up to t; the sum needs those after t."""
    rates, noise = np.array([0.3, 0.2, 0.1]), 0.5
    kept = 1 - 0.4 * rates
    recursion = 0.0
    for rate, factor in zip(rates, kept, strict=True):
        recursion = factor * recursion + rate * noise
    later = sum(r * noise * np.prod(kept[t + 1 :]) for t, r in enumerate(rates))
    printed = sum(r * noise * np.prod(kept[1 : t + 1]) for t, r in enumerate(rates))
    assert abs(recursion - later) < 1e-15
    assert abs(recursion - printed) > 1e-3


def test_rates_are_where_the_proof_says():
    """Below the first, (53) contracts; at the second, (54) adds half as much as the noise does."""
    limit = largest_contracting_rate(0.5, 2.0)
    for rate, contracts in ((0.99 * limit, True), (1.01 * limit, False)):
        assert (-0.5 * rate + 8 * (2 * 2.0 + 0.25) * rate**2 < 0) == contracts
    rate = largest_noise_limited_rate(0.5, 2.0, 0.1, 3.0, 4.0)
    extra = rate**2 * (8 * (2 * 2.0 + 0.25) * 3.0 + 4 * 0.25 * 4.0)
    np.testing.assert_allclose(2 * rate * 0.1 * 3.0 + extra, 3 * rate * 0.1 * 3.0, rtol=1e-12)


def test_error_falls_as_one_over_k_to_a_floor():
    """Without noise as 1 / k; with it, to the closed form, which is below the linear bound."""
    study = NoiseStudy(
        noise_variances=(0.0, 0.1, 0.2), neurons=4, inputs=2, trials=12, iterations=20_000,
        points=200,
    )  # fmt: skip
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        quiet, *noisy = measure_noise(study)
    late = quiet.iterations > 2000
    power = np.polyfit(np.log(quiet.iterations[late]), np.log(quiet.errors[late]), 1)[0]
    assert -1.2 < power < -0.8
    assert abs(quiet.floor) < 1e-4
    for curve in noisy:
        assert abs(curve.floor / curve.exact_floor - 1) < 0.1
        assert curve.floor < 2 * curve.noise_variance / study.gamma  # linear in sigma^2
    for curve in (quiet, *noisy):
        assert np.all(curve.errors < curve.bound)
    # For small noise the floor is quadratic in sigma^2, not linear.
    measured = np.log(noisy[1].floor / noisy[0].floor) / np.log(2)
    exact = np.log(noisy[1].exact_floor / noisy[0].exact_floor) / np.log(2)
    assert abs(measured - exact) < 0.15
    assert exact > 1.5


def test_mistakes_are_explained():
    with pytest.raises(ValueError, match=r"noise_variance=-1: expected at least 0"):
        gaussian_fourth_moment(jnp.zeros(2), jnp.eye(2), -1)
    with pytest.raises(ValueError, match=r"gamma=0: expected a number above 0"):
        largest_contracting_rate(0, 1.0)
    with pytest.raises(ValueError, match=r"fourth_moment=-1: expected at least 0"):
        largest_noise_limited_rate(1.0, -1, 0.1, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"iterations=30: expected a multiple of points=20"):
        measure_noise(NoiseStudy(iterations=30, points=20))
