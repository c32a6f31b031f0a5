"""BatchNorm by sums of our own against Flax's and float64: values, gradients, statistics."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxws.core import channel_sums
from jaxws.core.implementations import native
from jaxws.layers.norm import BatchNorm, normalise, relu

CHANNELS = 5
# What one rounding changes, of numbers up to three.
TOLERANCE = {"float32": 2e-5, "bfloat16": 2e-2}
SHAPES = [(3, 4, CHANNELS, 37), (7, CHANNELS, 64), (1, 1, CHANNELS, 3), (70, 2, CHANNELS, 16)]


@pytest.fixture(autouse=True)
def one_device_program(monkeypatch):
    monkeypatch.setattr(channel_sums, "may_be_partitioned", lambda *arrays: False)


def draw(shape, dtype, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(2, 3, shape), dtype)


def by_formula(x, scale, bias):
    """In the dtype given, with JAX's own derivatives."""
    axes = (*range(x.ndim - 2), x.ndim - 1)
    mean, variance = x.mean(axes), x.var(axes)
    y = (x - mean[:, None]) / jnp.sqrt(variance + 1e-5)[:, None] * scale[:, None] + bias[:, None]
    return y, mean, variance


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_those_of_the_formula(shape, dtype):
    x, dy = (draw(shape, dtype, seed) for seed in range(2))
    arrays = (x, draw(CHANNELS, "float32", 2), draw(CHANNELS, "float32", 3))
    # The gradient of a mean is spread over many numbers.
    count = x.size // CHANNELS
    cotangents = (dy, *(count * draw(CHANNELS, "float32", seed) for seed in (4, 5)))

    @jax.jit
    def ours(arrays, cotangents):
        results, vjp = jax.vjp(partial(normalise, epsilon=1e-5), *arrays)
        return results, vjp(cotangents)

    actual = jax.device_get(ours(arrays, cotangents))
    with jax.enable_x64(True):
        wide, t = jax.tree.map(lambda a: jnp.asarray(a, "float64"), (arrays, cotangents))
        results, vjp = jax.vjp(by_formula, *wide)
        exact = jax.device_get((results, vjp(t)))
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(exact), strict=True):
        size = max(np.abs(b).max(), 1)
        np.testing.assert_allclose(a.astype("float64") / size, b / size, atol=TOLERANCE[dtype])


def test_is_flax():
    x = draw((4, 3, CHANNELS, 9), "float32")
    ours = BatchNorm(use_running_average=False, axis=-2, momentum=0.9)
    flax = nn.BatchNorm(use_running_average=False, axis=-2, momentum=0.9)
    variables = flax.init(jax.random.key(0), x)
    assert_equal = partial(jax.tree.map, np.testing.assert_array_equal)
    assert_equal(ours.init(jax.random.key(0), x), variables)

    def results(layer, **arguments):
        return layer.apply(variables, x, mutable="batch_stats", **arguments)

    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), results(ours), results(flax))
    # With rows that do not count, and by running statistics, it is Flax that computes.
    mask = jnp.arange(9) < 7
    assert_equal(results(ours, mask=mask), results(flax, mask=mask))
    ours, flax = (layer.copy(use_running_average=True) for layer in (ours, flax))
    assert_equal(results(ours), results(flax))


def test_statistics_where_the_mean_is_large():
    x = draw((8, 8, CHANNELS, 32), "float32") + 3e4
    exact = np.asarray(x, "float64")
    mean, variance = channel_sums.moments(x)
    np.testing.assert_allclose(mean, exact.mean((0, 1, 3)), rtol=1e-6)
    np.testing.assert_allclose(variance, exact.var((0, 1, 3)), rtol=1e-4)


def test_statistics_say_what_is_not_finite():
    x = draw((2, CHANNELS, 20), "float32").at[0, 1, 3].set(jnp.inf).at[1, 2, 19].set(jnp.nan)
    for of_channels in channel_sums.moments(x):
        assert np.isfinite(of_channels).tolist() == [True, False, False, True, True]


def test_second_derivatives():
    x, weights = (draw((2, CHANNELS, 6), "float32", seed) for seed in range(2))
    arrays = (x, draw(CHANNELS, "float32", 3), draw(CHANNELS, "float32", 4))

    def curvature(function):
        loss = lambda *a: sum(jnp.sum(jnp.sin(b)) for b in function(*a))  # noqa: E731
        slopes = jax.grad(lambda *a: jnp.vdot(weights, jax.grad(loss)(*a)), range(3))
        return jax.jit(slopes)(*arrays)

    for ours, expected in zip(
        curvature(partial(normalise, epsilon=1e-5)), curvature(by_formula), strict=True
    ):
        np.testing.assert_allclose(ours, expected, atol=1e-3 * np.abs(expected).max())


def test_relu_is_jax_s():
    x = jnp.array([-1.0, 0.0, 2.0])
    for function in (relu, jax.jit(relu)):
        np.testing.assert_array_equal(function(x), nn.relu(x))
        (backward,), (_, forward) = jax.vjp(function, x)[1](x + 3), jax.jvp(function, [x], [x + 3])
        np.testing.assert_array_equal([backward, forward], [[0, 0, 5]] * 2)


def test_in_a_program_of_many_devices_it_is_plain(monkeypatch):
    def program():
        traced_anew = lambda x: channel_sums.moments(x)  # noqa: E731, PLW0108
        return jax.jit(traced_anew).lower(jnp.ones((4, 3, 8))).as_text()

    has_kernels = native.available() and jax.default_backend() == "cpu"
    assert ("jaxws_moments" in program()) == has_kernels
    monkeypatch.setattr(channel_sums, "may_be_partitioned", lambda *arrays: True)
    assert "jaxws_moments" not in program()
