"""The rules of appendix A against loops, gradients, their fixed points and each other; float64."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxws.dynamics import (
    begin,
    descend,
    fixed_point,
    fixed_point_mean,
    gaussian_second_moment,
    hebbian_update,
    isotropic_fixed_point,
    log_mean_inverse_snr,
    momentum_sgd,
    neg_log_snr,
    neg_log_snr_min,
    noisy_fixed_point,
    objective,
    pool_snr,
    second_moment,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")

ALPHAS = (0.0, 0.5, 10.0, math.inf)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def problem(seed, neurons, size, number):
    """Initial weights and inputs whose C has full rank."""
    rng = np.random.default_rng(seed)
    initial = rng.normal(1, 1, (neurons, size))
    return initial, rng.normal(0.5, 1, (number, size)) @ (np.eye(size) + 0.2)


def loops(weights, initial, inputs, gamma, alpha, noise):
    """Eq. (28) or (21) as printed, neuron by neuron, input by input."""
    number, neurons = len(inputs), len(weights)
    share = 1.0 if math.isinf(alpha) else alpha / (1 + alpha)
    change = np.zeros_like(weights)
    for m in range(number):
        seen = [inputs[m] + noise[m, i] for i in range(neurons)]
        z = [float(w @ x) for w, x in zip(weights, seen, strict=True)]
        for i in range(neurons):
            change[i] -= (z[i] - share * sum(z) / neurons) * seen[i] / number
    for i in range(neurons):
        change[i] -= gamma * (weights[i] - initial[i])
    return change


compiled_update = jax.jit(hebbian_update)


@given(
    st.integers(0, 10**6), st.sampled_from(((1, 3, 2), (5, 2, 3), (2, 1, 1))),
    st.sampled_from(ALPHAS), st.booleans(),
)  # fmt: skip
@settings(max_examples=25)
def test_update_is_that_of_loops(seed, shape, alpha, noisy):
    neurons, size, number = shape
    initial, inputs = problem(seed, neurons, size, number)
    rng = np.random.default_rng(seed)
    weights = initial + rng.normal(size=initial.shape)
    noise = rng.normal(size=(number, neurons, size)) * noisy
    update = compiled_update(
        weights, initial, inputs, 0.3, alpha=alpha, noise=noise if noisy else None
    )
    expected = loops(weights, initial, inputs, 0.3, alpha, noise)
    np.testing.assert_allclose(update, expected, rtol=1e-10, atol=1e-12)


def test_objective_is_that_of_pairs_and_the_rule_its_gradient():
    initial, inputs = problem(3, 5, 4, 7)
    weights = 0.3 * initial - 0.2
    pairs = itertools.product(weights, weights)
    spread = sum(np.sum(((a - b) @ inputs.T) ** 2) for a, b in pairs) / (4 * 7 * 5)
    expected = spread + 0.1 / 2 * np.sum((weights - initial) ** 2)
    arrays = (jnp.asarray(weights), jnp.asarray(initial), jnp.asarray(inputs), 0.1)
    np.testing.assert_allclose(objective(*arrays), expected, rtol=1e-12)
    np.testing.assert_allclose(-jax.grad(objective)(*arrays), hebbian_update(*arrays), rtol=1e-10)
    one = hebbian_update(*arrays[:2], arrays[2][0], 0.1)
    np.testing.assert_allclose(one, hebbian_update(*arrays[:2], arrays[2][:1], 0.1), rtol=1e-12)


@pytest.mark.parametrize(("neurons", "size"), [(2, 1), (7, 4), (30, 9)])
def test_rules_converge_to_their_fixed_points(neurons, size):
    """(13) to (19) and (21) to (24), all of gammas, alphas and inputs of a shape at once."""
    cases = list(itertools.product(range(3), (1.0, 0.3, 0.1), ALPHAS))
    drawn = [problem(seed, neurons, size, 4 * size + 3) for seed, _, _ in cases]
    initial, inputs = (jnp.asarray(np.stack(arrays)) for arrays in zip(*drawn, strict=True))
    gammas = jnp.asarray([gamma for _, gamma, _ in cases])
    alphas = jnp.asarray([alpha for _, _, alpha in cases])
    optimizer = momentum_sgd(lambda count: 1.0, momentum=0.9)
    largest = jnp.max(jax.vmap(lambda x: jnp.linalg.eigvalsh(second_moment(x))[-1])(inputs))

    @jax.jit
    @jax.vmap
    def end(initial, inputs, gamma, alpha):
        # The rate within inputs and gamma, so that one schedule serves all.
        rate = 1 / (largest + 1)
        batches = jnp.broadcast_to(inputs, (2500, *inputs.shape))
        scaled = optax.chain(optimizer, optax.scale(rate))
        state, curve = descend(
            begin(initial, scaled), initial, batches, scaled, gamma=gamma, alpha=alpha,
            record=lambda weights: jnp.mean(weights, axis=0), record_every=500,
        )  # fmt: skip
        return state.weights, curve

    reached, means = end(initial, inputs, gammas, alphas)
    for index, (_, gamma, alpha) in enumerate(cases):
        covariance = np.asarray(inputs[index]).T @ np.asarray(inputs[index]) / len(inputs[index])
        expected = printed_24(np.asarray(initial[index]), covariance, gamma, alpha)
        closed = fixed_point(initial[index], jnp.asarray(covariance), gamma, alpha=alpha)
        np.testing.assert_allclose(closed, expected, rtol=1e-10)
        np.testing.assert_allclose(reached[index], closed, rtol=1e-6, atol=1e-9)
        mean = fixed_point_mean(
            jnp.mean(initial[index], axis=0), jnp.asarray(covariance), gamma, alpha=alpha
        )
        np.testing.assert_allclose(np.mean(expected, axis=0), mean, rtol=1e-10)
        if math.isinf(alpha):  # (15): all along the way
            kept = np.broadcast_to(np.mean(initial[index], axis=0), means[index].shape)
            np.testing.assert_allclose(means[index], kept, rtol=1e-12)
            # (16)
            responses = np.asarray(inputs[index]) @ np.asarray(reached[index]).T
            mean_response = np.asarray(inputs[index]) @ np.mean(initial[index], axis=0)
            np.testing.assert_allclose(responses.mean(1), mean_response, rtol=1e-9, atol=1e-9)


def printed_24(initial, covariance, gamma, alpha):
    """Eq. (24), or (19), letter by letter."""
    identity = np.eye(len(covariance))
    mean = initial.mean(axis=0)
    outer = np.linalg.inv(covariance + gamma * identity)
    if math.isinf(alpha):
        return (outer @ ((covariance @ mean)[:, None] + gamma * initial.T)).T
    inner = np.linalg.inv(covariance / (1 + alpha) + gamma * identity)
    common = gamma * alpha / (1 + alpha) * covariance @ inner @ mean
    return (outer @ (common[:, None] + gamma * initial.T)).T


@given(st.integers(0, 10**6), st.floats(1e-3, 2), st.sampled_from(ALPHAS))
@settings(max_examples=10)
def test_isotropic_inputs(seed, gamma, alpha):
    """(20) and (25) are (19) and (24) for C = I."""
    initial = jnp.asarray(problem(seed, 5, 3, 1)[0])
    general = fixed_point(initial, jnp.eye(3), gamma, alpha=alpha)
    np.testing.assert_allclose(isotropic_fixed_point(initial, gamma, alpha=alpha), general)


@pytest.mark.parametrize("alpha", ALPHAS[1:])
def test_least_snr(alpha):
    """A.5's expression, and what it becomes with inhibition, for many neurons."""
    initial = jnp.asarray(np.random.default_rng(0).normal(1, 1, (100_000, 4)))
    end = isotropic_fixed_point(initial, 0.01, alpha=alpha)
    assert abs(neg_log_snr(end) - neg_log_snr_min(0.01, alpha=alpha)) < 0.02
    if math.isinf(alpha):
        printed = 2 * math.log(0.01 / 1.01)
        assert abs(neg_log_snr_min(0.01) - printed) < 1e-12


def test_noise_pulls_towards_zero():
    """The mean of the noisy rule over much noise vanishes where it is said to lead."""
    initial, inputs = (jnp.asarray(array) for array in problem(1, 4, 2, 6))
    covariance = second_moment(inputs)
    for alpha in (2.0, math.inf):
        end = noisy_fixed_point(initial, covariance, 0.5, 0.3, alpha=alpha)
        noise = math.sqrt(0.3) * np.random.default_rng(0).normal(size=(20_000, 6, 4, 2))
        noise = np.concatenate([noise, -noise])  # odd moments vanish exactly

        @jax.jit
        @jax.vmap
        def update(noise, end=end, alpha=alpha):
            return hebbian_update(end, initial, inputs, 0.5, alpha=alpha, noise=noise)

        updates = np.asarray(update(jnp.asarray(noise)))
        standard_error = updates.std(axis=0) / math.sqrt(len(updates))
        assert np.all(np.abs(updates.mean(axis=0)) < 4.5 * standard_error)
    quiet = noisy_fixed_point(initial, covariance, 0.5, 0.0, alpha=2.0)
    np.testing.assert_allclose(quiet, fixed_point(initial, covariance, 0.5, alpha=2.0))


def test_momentum_is_that_of_the_text():
    """v = 0.95 v + gradient, w = w - eta_k v, eta_k = 0.5 / (1000 + k), against a loop."""
    initial, inputs = problem(2, 3, 2, 4)
    weights, velocity = initial.copy(), np.zeros_like(initial)
    for k, x in enumerate(inputs):
        gradient = -loops(weights, initial, x[None], 0.1, 2.0, np.zeros((1, 3, 2)))
        velocity = 0.95 * velocity + gradient
        weights = weights - 0.5 / (1000 + k) * velocity
    optimizer = momentum_sgd()
    start = begin(jnp.asarray(initial), optimizer)
    arguments = (jnp.asarray(initial), jnp.asarray(inputs), optimizer)
    end, curve = descend(start, *arguments, gamma=0.1, alpha=2.0)
    np.testing.assert_allclose(end.weights, weights, rtol=1e-6)
    np.testing.assert_allclose(curve[-1], neg_log_snr(end.weights))
    half, _ = descend(start, arguments[0], arguments[1][:2], optimizer, gamma=0.1, alpha=2.0)
    again, _ = descend(half, arguments[0], arguments[1][2:], optimizer, gamma=0.1, alpha=2.0)
    np.testing.assert_allclose(again.weights, end.weights, rtol=1e-12)


def test_snr():
    """Against NumPy, at its ends, and Jensen's inequality between the two measures."""
    weights = np.random.default_rng(0).normal(1, 1, (6, 4))
    ratio = weights.mean(0) ** 2 / weights.var(0)
    np.testing.assert_allclose(pool_snr(jnp.asarray(weights)), ratio.mean())
    np.testing.assert_allclose(neg_log_snr(jnp.asarray(weights)), -np.log(ratio.mean()))
    inverse = log_mean_inverse_snr(jnp.asarray(weights))
    np.testing.assert_allclose(inverse, np.log((1 / ratio).mean()))
    assert inverse > neg_log_snr(jnp.asarray(weights))
    for same in (jnp.full((7, 3), 0.1), jnp.zeros((7, 3)), jnp.ones((1, 3))):
        assert pool_snr(same) == math.inf
        assert neg_log_snr(same) == -math.inf
        assert log_mean_inverse_snr(same) == -math.inf
    assert log_mean_inverse_snr(jnp.asarray([[1.0], [-1.0]])) == math.inf


ONES = np.ones((3, 2))


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hebbian_update(ONES, ONES, ONES[0], -0.1), r"gamma=-0\.1: expected at least 0"),
        (lambda: hebbian_update(ONES, ONES, ONES[0], 0.1, alpha=-1.0), r"alpha=-1\.0: expected"),
        (lambda: hebbian_update(ONES, ONES, np.ones(3), 0.1), r"the last axes to agree"),
        (lambda: hebbian_update(ONES, ONES, ONES[0], 0.1, noise=ONES[:2]), r"its own for every"),
        (lambda: objective(ONES, ONES, ONES, math.nan), r"gamma=nan: expected at least 0"),
        (lambda: objective(ONES[0], ONES, ONES, 0.1), r"expected \(N, d\), one row per neuron"),
        (lambda: fixed_point(ONES, np.eye(2), 0.0), r"gamma=0\.0: expected a number above 0"),
        (lambda: fixed_point(ONES, np.eye(3), 0.1), r"the last axes to agree"),
        (lambda: noisy_fixed_point(ONES, np.eye(2), 0.1, -1.0), r"noise_variance=-1\.0"),
        (lambda: neg_log_snr_min(-0.1), r"gamma=-0\.1: expected a number above 0"),
        (lambda: pool_snr(np.ones((2, 3, 4))), r"use vmap for several pools"),
        (lambda: follow(noise_std=0.1), r"noise_std=0\.1 without a key"),
        (lambda: follow(noise_std=-0.1, key=jax.random.key(0)), r"noise_std=-0\.1: expected"),
        (lambda: follow(record_every=2), r"record_every=2: expected a divisor of the 3 iterations"),
    ],
)
def test_mistakes_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def follow(**arguments):
    optimizer = momentum_sgd()
    weights = jnp.asarray(ONES)
    return descend(begin(weights, optimizer), weights, weights, optimizer, gamma=0.1, **arguments)


def test_gaussian_inputs():
    draws = np.random.default_rng(0).normal(2, 1, (200_000, 2))
    expected = draws.T @ draws / len(draws)
    np.testing.assert_allclose(gaussian_second_moment(2, mean=2.0), expected, atol=0.03)
