"""Kinds of layers between a convolution and a locally connected one, and transposed ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxws import (
    LocalConv,
    LocalConvTranspose,
    LowRankConv,
    layer_windows,
    share_weights,
    to_conv,
    to_local,
    weight_snr,
)
from jaxws.dynamics import sleep_phase
from tests.support.drawn import normal

pytestmark = pytest.mark.versions


def drawn(layer, x):
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
    return jax.tree.map(lambda leaf: normal(leaf.shape, 1), shapes)


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": (3, 3)},
        {"kernel_size": (4, 4), "strides": (2, 2)},
        {"kernel_size": (2, 5), "strides": (3, 1), "padding": "VALID", "use_bias": False},
        {"kernel_size": (3, 3), "strides": (2, 2), "padding": ((1, 3), (0, 2))},
        {"kernel_size": (2, 3), "strides": (2, 1), "kernel_dilation": (2, 2)},
    ],
)
def test_arguments_mean_what_they_mean_in_nn_conv_transpose(arguments):
    x = normal((3, 4, 5, 6), 2)
    conv = nn.ConvTranspose(4, transpose_kernel=True, **arguments)
    local = LocalConvTranspose(4, **arguments)
    like = jax.eval_shape(local.init, jax.random.key(0), x)["params"]

    @jax.jit
    def run(params, x):
        untied = to_local(params, like)
        return local.apply({"params": untied}, x), conv.apply({"params": params}, x)

    y, expected = run(drawn(conv, x), x)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def test_numbered_transposed_layers_are_converted_too():
    x = jnp.ones((1, 4, 4, 3))

    class Numbered(nn.Module):
        conv: type
        transpose: type

        @nn.compact
        def __call__(self, x):
            x = self.conv(5, (3, 3), strides=2)(x)
            extra = {"transpose_kernel": True} if self.transpose is nn.ConvTranspose else {}
            return self.transpose(3, (3, 3), strides=(2, 2), **extra)(x)

    tied, untied = Numbered(nn.Conv, nn.ConvTranspose), Numbered(LocalConv, LocalConvTranspose)
    params = drawn(tied, x)
    like = jax.eval_shape(untied.init, jax.random.key(0), x)["params"]
    local = to_local(params, like)
    assert set(local) == {"LocalConv_0", "LocalConvTranspose_0"}
    np.testing.assert_allclose(
        untied.apply({"params": local}, x), tied.apply({"params": params}, x), rtol=1e-4, atol=1e-4
    )
    back = to_conv(local)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), back, params)


def test_transposed_outputs_start_as_those_of_nn_conv_transpose():
    x, variances = normal((32, 8, 8, 32), 1), []
    for layer in (nn.ConvTranspose(16, (3, 3)), LocalConvTranspose(16, (3, 3))):
        y, _ = jax.jit(layer.init_with_output)(jax.random.key(0), x)
        variances.append(np.asarray(y)[:, 1:-1, 1:-1].var())
    np.testing.assert_allclose(variances, 1, rtol=0.1)


def test_biases_per_neuron_or_per_feature():
    x = jnp.zeros((2, 5, 4, 3))
    for shared, shape in ((False, (5, 4, 6)), (True, (6,))):
        layer = LocalConv(6, (3, 3), shared_bias=shared)
        params = drawn(layer, x)
        assert params["bias"].shape == shape
        y = layer.apply({"params": params}, x)
        np.testing.assert_array_equal(y[1], np.broadcast_to(params["bias"], (5, 4, 6)))
        tied = to_conv({"conv": params})["conv"]["bias"]
        np.testing.assert_allclose(tied, params["bias"].reshape(-1, 6).mean(0), rtol=1e-5)


def test_blocks_lie_between_conv_and_lc():
    x = normal((2, 7, 6, 3), 2)
    conv = nn.Conv(4, (3, 3))
    params = drawn(conv, x)
    expected = jax.jit(conv.apply)({"params": params}, x)
    for block, count in ((1, (7, 6)), (3, (3, 2)), (7, (1, 1))):
        layer = LocalConv(4, (3, 3), block_size=block, shared_bias=True)
        like = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
        assert like["local_kernel"].shape == (*count, 3, 3, 3, 4)
        local = to_local(params, like)
        y = jax.jit(layer.apply)({"params": local}, x)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
        for tied, own in zip(*map(jax.tree.leaves, (to_conv(local), params)), strict=True):
            np.testing.assert_allclose(tied, own, rtol=1e-5, atol=1e-6)


def test_pools_of_blocks_are_every_kth_block():
    layer = LocalConv(4, (3, 3), block_size=2, use_bias=False)
    params = drawn(layer, jnp.ones((1, 12, 12, 2)))
    shared = share_weights(params)
    np.testing.assert_array_equal(*(shared["local_kernel"][i::3, 1] for i in (0,) * 2))
    assert np.isinf(weight_snr(shared)[""])
    with pytest.raises(ValueError, match="blocks of 2 positions"):
        layer_windows(layer, (12, 12, 2))


def test_low_rank_layers_start_as_a_convolution_and_need_not_stay_one():
    x = normal((2, 6, 5, 3), 2)
    layer = LowRankConv(4, (3, 3), rank=2)
    variables = jax.jit(layer.init)(jax.random.key(0), x)
    params = variables["params"]
    conv = nn.Conv(4, (3, 3))
    kernel = params["basis"].mean(0)
    expected = conv.apply({"params": {"kernel": kernel, "bias": jnp.zeros(4)}}, x)
    apply = jax.jit(layer.apply)
    np.testing.assert_allclose(apply(variables, x), expected, rtol=1e-4, atol=1e-5)
    # Rows that take one filter of the basis each.
    rows = 100 * jnp.eye(2)[jnp.arange(6) % 2]
    y = apply({"params": {**params, "combination_0": rows}}, x)
    for parity in (0, 1):
        own = {"kernel": params["basis"][parity], "bias": jnp.zeros(4)}
        expected = conv.apply({"params": own}, x)
        np.testing.assert_allclose(y[:, parity::2], expected[:, parity::2], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="found no leaf named 'local_kernel'"):
        share_weights(params)


def test_a_transposed_layer_sleeps_only_without_windows():
    """Its windows are not among those of a network, and the error says so."""
    layer = LocalConvTranspose(2, (3, 3), use_bias=False)
    params = {"up": drawn(layer, jnp.ones((1, 6, 6, 3)))}
    with pytest.raises(ValueError, match="windows"):
        sleep_phase(jax.random.key(0), params, windows={})


@pytest.mark.parametrize(
    ("image", "kernel_size"), [((7,), (3,)), ((4, 5), (1, 3)), ((3, 4, 2), (2, 1, 3))]
)
def test_masked_weights_do_nothing_in_any_dimension(image, kernel_size):
    x = normal((2, *image, 2), 2)
    mask = np.random.default_rng(3).integers(0, 2, (*image, *kernel_size, 2, 3)).astype(np.float32)
    layer, plain = LocalConv(3, kernel_size, mask=mask), LocalConv(3, kernel_size)
    kernel, bias = normal(mask.shape, 4), normal((*image, 3), 5)

    @jax.jit
    def run(kernel):
        def masked(kernel):
            return layer.apply({"params": {"masked_local_kernel": kernel, "bias": bias}}, x)

        y, pull_back = jax.vjp(masked, kernel)
        expected = plain.apply({"params": {"local_kernel": kernel * mask, "bias": bias}}, x)
        return y, expected, pull_back(jnp.ones_like(y))[0]

    y, expected, gradient = run(kernel)
    np.testing.assert_array_equal(y, expected)
    assert not np.any(gradient[mask == 0])
    assert np.any(gradient[mask == 1])
