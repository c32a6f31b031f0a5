"""The sleep phase against loops over neurons, closed forms, instant sharing."""

import functools
import itertools
import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxws import LocalConv, LocalDense, layer_windows, share_weights, weight_snr
from jaxws.core.packed import pack_kernels, unpack_kernels
from jaxws.core.pooled import expand_pools, pool_kernels
from jaxws.dynamics import Rule, sleep_phase
from jaxws.models import ResNet
from tests.support.drawn import drawn_variables, normal

pytestmark = pytest.mark.usefixtures("strict_promotion")

zip_ = functools.partial(zip, strict=True)


class OneLayer(nn.Module):
    """A network of one layer, to read windows from."""

    layer: dict

    @nn.compact
    def __call__(self, x):
        return LocalConv(use_bias=False, name="conv", **self.layer)(x)


def noise_of(key, path, rule, groups, inputs):
    """The draws of a phase, (iterations, patterns, groups, inputs)."""
    keys = jax.random.split(jax.random.fold_in(key, zlib.crc32(path.encode())), rule.iterations)
    shape = (rule.patterns, groups, inputs)
    draws = [jax.random.normal(k, (int(np.prod(shape)),)).reshape(shape) for k in keys]
    return np.stack(draws).astype(np.float64)


def loops(noise, kernel, window, groups, rule, borders):
    """The rule as the paper tells it: images of repeated patches, neurons, pools; float64."""
    size, k = window.input_size, window.kernel_size
    initial, kernel = kernel.astype(np.float64), kernel.astype(np.float64)
    per_group = kernel.shape[-1] // groups
    ndim = len(size)
    begin = {
        position: [p * s - low for p, s, (low, _) in zip_(position, window.strides, window.padding)]
        for position in np.ndindex(*window.output_size)
    }

    def pixels(position, offset):
        return [b + o * d for b, o, d in zip_(begin[position], offset, window.dilation)]

    def sees_padding(position):
        corners = pixels(position, [0] * ndim), pixels(position, [n - 1 for n in k])
        return any(p < 0 or p >= n for corner in corners for p, n in zip_(corner, size))

    neurons = [p for p in begin if borders == "in" or not sees_padding(p)]
    for patches in noise:
        change = np.zeros_like(kernel)
        for patch, group in itertools.product(patches, range(groups)):
            pattern = patch[group].reshape(*k, -1)
            features = slice(group * per_group, (group + 1) * per_group)
            inputs, responses = {}, {}
            for position in neurons:
                x = np.zeros(kernel.shape[ndim:-1])
                for offset in np.ndindex(*k):
                    pixel = pixels(position, offset)
                    x[offset] = pattern[tuple(p % n for p, n in zip_(pixel, k))]
                inputs[position] = x
                flat = kernel[position][..., features].reshape(x.size, -1)
                responses[position] = x.ravel() @ flat
            for position in neurons:
                pool = [
                    p for p in neurons if all((a - b) % n == 0 for a, b, n in zip_(p, position, k))
                ]
                mean = np.mean([responses[p] for p in pool], axis=0)
                hebbian = np.multiply.outer(inputs[position], responses[position] - mean)
                change[position][..., features] -= hebbian / len(patches)
        for position in neurons:
            change[position] -= rule.gamma * (kernel[position] - initial[position])
        kernel = kernel + rule.rate * change
    return kernel


LAYERS = {
    "plain": ((8, 7, 2), {"kernel_size": (3, 3), "padding": 1, "features": 3}),
    "stride": ((13, 15, 2), {"kernel_size": (3, 3), "padding": 1, "strides": 2, "features": 2}),
    "groups": (
        (6, 6, 4),
        {"kernel_size": (2, 3), "padding": "SAME", "features": 4, "feature_group_count": 2},
    ),
    "dilated": ((9, 2), {"kernel_size": 3, "kernel_dilation": 2, "padding": 2, "features": 2}),
    "pointwise": ((4, 4, 3), {"kernel_size": (1, 1), "strides": 2, "features": 2}),
    "volume": ((4, 4, 4, 1), {"kernel_size": (2, 2, 2), "padding": 1, "features": 1}),
    "circular": ((7, 2), {"kernel_size": 3, "padding": "CIRCULAR", "features": 2}),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("borders", ["in", "out"])
@pytest.mark.parametrize("composed", [False, True], ids=["step by step", "composed"])
def test_it_is_the_rule_on_a_tiled_image(name, borders, composed):
    image, layer = LAYERS[name]
    (path, (window, groups)), *_ = layer_windows(OneLayer(layer), image).items()
    inputs = int(np.prod(window.kernel_size)) * image[-1] // groups
    # One by one where 2 * iterations * patterns <= inputs.
    rule = Rule(3, inputs, 0.05, 0.3) if composed else Rule(inputs // 2, 1, 0.05, 0.3)
    shape = (*window.output_size, *window.kernel_size, image[-1] // groups, layer["features"])
    kernel = np.random.default_rng(0).normal(1, 1, shape).astype(np.float32)
    params = {"conv": {"local_kernel": kernel, "bias": np.ones(2)}, "local": np.ones(3)}
    windows = layer_windows(OneLayer(layer), image)
    slept = sleep_phase(jax.random.key(3), params, rule, borders=borders, windows=windows)
    noise = noise_of(jax.random.key(3), path, rule, groups, inputs)
    expected = loops(noise, kernel, window, groups, rule, borders)
    assert np.abs(expected - kernel).max() > 1e-3
    np.testing.assert_allclose(slept["conv"]["local_kernel"], expected, rtol=0, atol=3e-6)
    assert slept["conv"]["bias"] is params["conv"]["bias"] and slept["local"] is params["local"]


def test_border_neurons_keep_their_weights_when_out_of_the_pools():
    image, layer = LAYERS["plain"]
    windows = layer_windows(OneLayer(layer), image)
    kernel = normal((8, 7, 3, 3, 2, 3))
    params = {"conv": {"local_kernel": kernel}}
    slept = sleep_phase(jax.random.key(1), params, borders="out", windows=windows)
    same = np.asarray(slept["conv"]["local_kernel"] == kernel).all(axis=(2, 3, 4, 5))
    border = np.ones((8, 7), bool)
    border[1:-1, 1:-1] = False
    np.testing.assert_array_equal(same, border)


@pytest.fixture(scope="module")
def network():
    model = ResNet((0, 1), 4, 10, LocalConv)  # every kind of layer once
    params = drawn_variables(model, jnp.ones((1, 13, 13, 3)))["params"]
    params = jax.tree.map(lambda w: w + 0.1, params)
    return params, layer_windows(model, (13, 13, 3))


share, ratios = jax.jit(share_weights), jax.jit(weight_snr)


def means(params):
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(share(params))]


def test_all_layers_of_a_network_rise_in_snr_and_keep_their_means(network):
    params, windows = network
    rule = Rule(iterations=50, gamma=0.0)
    sleep = jax.jit(lambda key, p: sleep_phase(key, p, rule, windows=windows))
    slept = sleep(jax.random.key(1), params)
    before, after = ratios(params), ratios(slept)
    assert len(before) == 4
    assert all(after[name] > 10 * before[name] for name in before)
    for old, new in zip(means(params), means(slept), strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=1e-5)
    other = sleep(jax.random.key(2), params)
    assert any(
        (a != b).any() for a, b in zip(jax.tree.leaves(slept), jax.tree.leaves(other), strict=True)
    )


def test_many_iterations_without_gamma_are_instant_sharing(network):
    params, windows = network
    rule = Rule(400, gamma=0.0)
    slept = jax.jit(lambda key, p: sleep_phase(key, p, rule, windows=windows))(
        jax.random.key(1), params
    )
    for new, shared in zip(jax.tree.leaves(slept), jax.tree.leaves(share(params)), strict=True):
        np.testing.assert_allclose(new, shared, rtol=0, atol=2e-6)


def test_packed_and_pooled_kernels_stay_so(network):
    params, windows = network
    rule, key = Rule(iterations=3), jax.random.key(1)
    plain = sleep_phase(key, params, rule, windows=windows)
    start = jax.jit(pack_kernels)(params)
    packed = sleep_phase(key, start, rule, windows=windows)
    unpacked = jax.jit(unpack_kernels)(packed)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(unpacked), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    assert jax.tree.structure(packed) == jax.tree.structure(start)
    pooled = jax.jit(pool_kernels)(params)
    slept, expected = map(jax.jit(expand_pools), (sleep_phase(key, pooled, rule), pooled))
    for a, b in zip(jax.tree.leaves(slept), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def test_tokens_of_a_linear_layer_become_equal():
    model = LocalDense(3)
    params = drawn_variables(model, jnp.ones((1, 16, 5)))["params"]
    windows = layer_windows(model, (16, 5))
    assert windows[""].window.output_size == (16,)
    slept = sleep_phase(
        jax.random.key(1), params, Rule(300, gamma=0.0), borders="out", windows=windows
    )
    np.testing.assert_allclose(
        slept["local_kernel"], share(params)["local_kernel"], rtol=0, atol=1e-5
    )


def test_bfloat16_kernels_come_back_as_they_were():
    kernel = jnp.ones((6, 6, 3, 3, 2, 2), jnp.bfloat16)
    slept = sleep_phase(jax.random.key(0), {"local_kernel": kernel})["local_kernel"]
    assert slept.dtype == jnp.bfloat16
    np.testing.assert_array_equal(slept.astype(jnp.float32), 1)


PARAMS = {"conv": {"local_kernel": jnp.ones((6, 6, 3, 3, 2, 2))}}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Rule(iterations=-1), "iterations=-1: expected at least 0"),
        (Rule(patterns=0), "patterns=0: expected at least 1"),
        (Rule(gamma=-0.1), "gamma=-0.1: expected at least 0"),
        (Rule(gamma=float("nan")), "gamma=nan: expected at least 0"),
        (Rule(rate=0.0), "rate=0.0: expected a number above 0"),
        (Rule(rate=1.9), "18 inputs, would diverge; expected a rate below 1.74"),
        (Rule(patterns=1, rate=0.11), "below 0.1, or more patterns"),
    ],
)
def test_impossible_rules(rule, message):
    with pytest.raises(ValueError, match=message):
        sleep_phase(jax.random.key(0), PARAMS, rule)


def test_impossible_networks():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="no leaf named 'local_kernel'"):
        sleep_phase(key, {"conv": {"kernel": jnp.ones((3, 3, 2, 2))}})
    small = {"conv": {"local_kernel": jnp.ones((2, 6, 3, 3, 2, 2))}}
    with pytest.raises(ValueError, match=r"'conv' has a kernel of size \(3, 3\) and \(2, 6\)"):
        sleep_phase(key, small)
    with pytest.raises(ValueError, match="borders='out' without windows"):
        sleep_phase(key, PARAMS, borders="out")
    with pytest.raises(ValueError, match="borders='inside'"):
        sleep_phase(key, PARAMS, borders="inside")
    with pytest.raises(ValueError, match="windows has no layer 'conv'"):
        sleep_phase(key, PARAMS, windows={})
    wide = {"kernel_size": (3, 3), "features": 2, "padding": 1}
    windows = layer_windows(OneLayer(wide), (9, 9, 2))
    with pytest.raises(ValueError, match=r"has \(9, 9\) positions .* but the layer \(6, 6\)"):
        sleep_phase(key, PARAMS, windows=windows)
    twice = wide | {"kernel_size": (2, 2), "kernel_dilation": 2}
    with pytest.raises(ValueError, match="see some entries of a repeated pattern twice"):
        params = {"conv": {"local_kernel": jnp.ones((9, 9, 2, 2, 2, 2))}}
        sleep_phase(key, params, windows=layer_windows(OneLayer(twice), (9, 9, 2)))
    with pytest.raises(ValueError, match="'conv' has input dilation 2"):
        layer_windows(OneLayer(wide | {"input_dilation": 2}), (9, 9, 2))
