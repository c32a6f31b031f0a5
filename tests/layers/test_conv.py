from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxws import LocalConv, LocalDense, to_local
from jaxws.models.resnet import conv_init
from tests.support.drawn import normal

pytestmark = pytest.mark.versions

CASES = [
    {},
    {"strides": 2},
    {"strides": (1, 2), "padding": "VALID"},
    {"padding": 1},
    {"padding": ((2, 0), 1)},
    {"padding": "CIRCULAR"},
    {"padding": "CIRCULAR", "kernel_dilation": 2, "strides": 2},
    {"padding": "REFLECT"},
    {"padding": "SAME_LOWER", "strides": 2},
    {"kernel_dilation": (2, 1)},
    {"feature_group_count": 2},
    {"input_dilation": 2, "padding": 1},
    {"strides": None, "kernel_dilation": None, "input_dilation": None},
]


def drawn(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def with_equal_weights(conv, local, x):
    """What both layers compute, in one program; nothing is compiled to draw their weights."""
    like = jax.eval_shape(local.init, jax.random.key(0), x)["params"]
    shapes = jax.eval_shape(conv.init, jax.random.key(0), x)["params"]

    @jax.jit
    def run(params, x):
        untied = to_local(params, like)
        return local.apply({"params": untied}, x), conv.apply({"params": params}, x)

    return run(jax.tree.map(lambda leaf: drawn(*leaf.shape), shapes), x)


@pytest.mark.parametrize("arguments", CASES)
def test_arguments_mean_what_they_mean_in_nn_conv(arguments):
    layers = nn.Conv(4, (3, 2), **arguments), LocalConv(4, (3, 2), **arguments)
    y, expected = with_equal_weights(*layers, drawn(3, 9, 8, 6))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_one_and_three_dimensions_and_batch_axes():
    for shape, kernel_size in [((7, 3), 2), ((2, 4, 7, 3), 2), ((3, 4, 5, 6, 2), (2, 1, 3))]:
        layers = nn.Conv(4, kernel_size), LocalConv(4, kernel_size)
        y, expected = with_equal_weights(*layers, drawn(*shape))
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_causal_padding_sees_the_past_only():
    x = jnp.ones((1, 8, 2))
    layer = LocalConv(3, 3, padding="CAUSAL")
    variables = layer.init(jax.random.key(0), x)
    run = jax.jacobian(lambda x: layer.apply(variables, x)[0].sum(-1))
    jacobian = np.asarray(jax.jit(run)(x))[:, 0].sum(-1)
    assert np.array_equal(jacobian != 0, np.tri(8, dtype=bool) & ~np.tri(8, k=-3, dtype=bool))
    with pytest.raises(ValueError, match="1-D"):
        LocalConv(3, (3, 3), padding="CAUSAL").init(jax.random.key(0), jnp.ones((1, 4, 4, 2)))


def test_mask_and_dtype():
    x = jnp.ones((2, 5, 5, 3))
    layer = LocalConv(4, (3, 3), mask=jnp.zeros((3, 3, 3, 4)), dtype=jnp.bfloat16)
    y, variables = jax.jit(layer.init_with_output)(jax.random.key(0), x)
    assert variables["params"]["masked_local_kernel"].dtype == jnp.float32
    assert y.dtype == jnp.bfloat16
    assert not np.any(y)


def test_an_image_with_other_positions_or_channels_is_named():
    layer = nn.Sequential([LocalConv(4, (3, 3), strides=2, padding=1), LocalDense(2)])
    variables = jax.eval_shape(layer.init, jax.random.key(0), jnp.ones((1, 8, 8, 3)))
    apply = partial(jax.eval_shape, layer.apply, variables)
    apply(jnp.ones((1, 7, 8, 3)))  # the same 4 x 4 positions
    for image in ((1, 9, 8, 3), (1, 8, 8, 5)):
        with pytest.raises(ValueError, match="layer 'layers_0' has filters of shape"):
            apply(jnp.ones(image))


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("size", [8, 16])
def test_lc_and_conv_outputs_start_with_the_same_variance(size, strides):
    """Fans are counted per position: 2 / (c_out k^2), whatever h and w (appendix B)."""
    x = normal((64, size, size, 32), 1)
    arguments = {
        "features": 48, "kernel_size": (3, 3), "strides": strides, "padding": "VALID",
        "use_bias": False, "kernel_init": conv_init,
    }  # fmt: skip
    variances = []
    for layer in (nn.Conv(**arguments), LocalConv(**arguments)):
        y, _ = jax.jit(layer.init_with_output)(jax.random.key(0), x)
        variances.append(np.asarray(y).var())
    expected = 2 / (48 * 9) * 32 * 9
    np.testing.assert_allclose(variances, expected, rtol=0.06)


def test_positions_draw_independent_filters():
    init = jax.jit(LocalConv(16, (3, 3), kernel_init=conv_init).init)
    params = init(jax.random.key(0), jnp.ones((1, 8, 8, 16)))["params"]
    flat = np.asarray(params["local_kernel"]).reshape(64, -1)
    np.testing.assert_allclose(flat.var(), 2 / (16 * 9), rtol=0.02)
    correlation = np.corrcoef(flat) - np.eye(64)
    assert np.abs(correlation).max() < 5 / np.sqrt(flat.shape[1])


def test_local_dense_has_weights_per_token():
    x, layer = drawn(2, 6, 5), LocalDense(3)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: drawn(*leaf.shape), shapes)
    kernel, bias = variables["params"]["local_kernel"], variables["params"]["bias"]
    assert kernel.shape == (6, 1, 5, 3)
    expected = np.einsum("ntc,tcf->ntf", x, kernel[:, 0]) + bias
    apply = jax.jit(layer.apply)
    np.testing.assert_allclose(apply(variables, x), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(apply(variables, x[0]), expected[0], rtol=1e-5, atol=1e-5)


def test_partitioned_initialisers():
    """Mesh axes may be named for one filter, as for nn.Conv, or for the whole kernel."""
    init = nn.initializers.lecun_normal()
    x = jnp.ones((1, 5, 4, 2))

    def params_of(layer, x):
        return jax.jit(layer.init)(jax.random.key(0), x)["params"]

    plain = params_of(LocalConv(3, (3, 3), kernel_init=init), x)
    for names in [(None, None, None, "f"), ("h", None, None, None, None, "f")]:
        layer = LocalConv(3, (3, 3), kernel_init=nn.with_partitioning(init, names))
        boxed = params_of(layer, x)
        assert boxed["local_kernel"].names == (None,) * (6 - len(names)) + names
        np.testing.assert_array_equal(boxed["local_kernel"].value, plain["local_kernel"])
    dense = LocalDense(3, kernel_init=nn.with_partitioning(init, (None, "f")))
    boxed = params_of(dense, jnp.ones((1, 5, 2)))
    assert boxed["local_kernel"].names == (None, None, None, "f")
    assert boxed["local_kernel"].value.shape == (5, 1, 2, 3)


def test_another_image_size_is_refused():
    layer = LocalConv(3, (3, 3))
    variables = jax.jit(layer.init)(jax.random.key(0), jnp.ones((1, 8, 8, 2)))
    with pytest.raises(Exception, match=r"\(8, 8, 3, 3, 2, 3\)"):
        layer.apply(variables, jnp.ones((1, 9, 9, 2)))


def test_no_groups_is_refused():
    layer = LocalConv(3, (3, 3), feature_group_count=0)
    with pytest.raises(Exception, match="feature_group_count=0"):
        layer.init(jax.random.key(0), jnp.ones((1, 8, 8, 2)))
