"""NNX layers compute what those of Linen do, and refuse what these refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxws
from jaxws import nnx as local
from tests.support.drawn import normal

pytestmark = pytest.mark.versions

# NNX class, Linen class, features, kernel size, arguments, input.
CASES = {
    "plain": (local.LocalConv, jaxws.LocalConv, 4, (3, 2), {}, (3, 9, 8, 6)),
    "all": (
        local.LocalConv, jaxws.LocalConv, 4, (3, 3),
        {"strides": 2, "padding": "REFLECT", "kernel_dilation": (2, 1), "feature_group_count": 2,
         "input_dilation": 2, "shared_bias": True}, (2, 5, 4, 6),
    ),
    "blocks": (
        local.LocalConv, jaxws.LocalConv, 4, 3,
        {"block_size": 4, "dtype": jnp.bfloat16}, (2, 2, 9, 2),
    ),
    "transposed": (
        local.LocalConvTranspose, jaxws.LocalConvTranspose, 4, (3, 4),
        {"strides": 2, "feature_group_count": 2}, (3, 4, 5, 6),
    ),
    "transposed, shared": (
        local.LocalConvTranspose, jaxws.LocalConvTranspose, 3, 4,
        {"strides": 3, "padding": "VALID", "shared_bias": True, "kernel_dilation": 2}, (2, 6, 3),
    ),
    "low rank": (
        local.LowRankConv, jaxws.LowRankConv, 4, (3, 3),
        {"rank": 3, "strides": 2, "padding": 1}, (2, 7, 6, 3),
    ),
    "low rank, 1-D": (
        local.LowRankConv, jaxws.LowRankConv, 4, 3,
        {"rank": 2, "separable": False, "normalise": False, "use_bias": False}, (2, 7, 3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CASES)
def test_values_are_those_of_linen(kind):
    cls, linen_cls, features, kernel_size, arguments, shape = CASES[kind]
    x, ndim = normal(shape, 1), 1 if isinstance(kernel_size, int) else 2
    layer = nnx.eval_shape(
        lambda: cls(
            shape[-1],
            features,
            kernel_size,
            image_size=shape[-ndim - 1 : -1],
            rngs=nnx.Rngs(0),
            **arguments,
        )
    )
    graph, state = nnx.split(layer)
    linen = linen_cls(features, kernel_size, **arguments)
    shapes = jax.eval_shape(linen.init, jax.random.key(0), x)["params"]
    assert {k: v.shape for k, v in nnx.to_pure_dict(state).items()} == {
        k: v.shape for k, v in shapes.items()
    }
    params = {name: normal(leaf.shape, 2) for name, leaf in shapes.items()}

    @jax.jit
    def run(params, x):
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graph, state)(x), linen.apply({"params": params}, x)

    y, expected = run(params, x)
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y, expected)


def test_weights_are_drawn_per_position():
    layer = local.LocalConv(16, 16, (3, 3), image_size=(8, 8), rngs=nnx.Rngs(0))
    flat = np.asarray(layer.local_kernel[...]).reshape(64, -1)
    np.testing.assert_allclose(flat.var(), 1 / (16 * 9), rtol=0.02)
    assert np.abs(np.corrcoef(flat) - np.eye(64)).max() < 5 / np.sqrt(flat.shape[1])


def test_masks_are_found_and_kept_out_of_the_parameters():
    mask = jnp.asarray([1.0, 0.0, 1.0, 0.0]).reshape(4, 1, 1, 1)

    class Network(nnx.Module):
        def __init__(self):
            self.part = local.LocalConv(1, 1, 1, image_size=4, mask=mask, rngs=nnx.Rngs(0))

    network = Network()
    assert set(nnx.state(network, nnx.Param)["part"]) == {"masked_local_kernel", "bias"}
    network.part.masked_local_kernel[...] = jnp.arange(4.0).reshape(4, 1, 1, 1)
    np.testing.assert_array_equal(network.part(jnp.ones((4, 1))).ravel(), [0, 0, 2, 0])
    local.share_weights(network)
    np.testing.assert_array_equal(network.part(jnp.ones((4, 1))).ravel(), [1, 0, 1, 0])
    assert np.isinf(local.weight_snr(network)["part"])
    with pytest.raises(ValueError, match="has a mask"):
        jaxws.share_weights(nnx.state(network, nnx.Param))


def test_sharing_pools_and_modules_without_layers():
    layer = local.LocalConv(1, 2, 3, image_size=7, rngs=nnx.Rngs(0))
    before = layer.local_kernel[...]
    local.share_weights(layer, pools="global")
    expected = jnp.broadcast_to(before.mean(0), before.shape)
    np.testing.assert_allclose(layer.local_kernel[...], expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="found no leaf named 'local_kernel'"):
        local.share_weights(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    local.share_weights(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), missing_ok=True)


@pytest.mark.parametrize(
    ("cls", "arguments", "match"),
    [
        (local.LocalConv, {"feature_group_count": 2}, "does not divide in_features=3"),
        (local.LocalConv, {"image_size": (8, 8, 8)}, "image_size"),
        (local.LocalConv, {"padding": "same "}, "padding="),
        (local.LowRankConv, {"rank": 0}, "rank=0"),
        (local.LocalConvTranspose, {"feature_group_count": 3}, "does not divide 4 features"),
    ],
)
def test_what_is_wrong_is_said(cls, arguments, match):
    given = {"image_size": (8, 8), "rngs": nnx.Rngs(0), **arguments}
    with pytest.raises(ValueError, match=match):
        cls(3, 4, (3, 3), **given)


def test_images_of_another_size_are_refused():
    layers = [
        cls(3, 4, (3, 3), image_size=(8, 8), rngs=nnx.Rngs(0))
        for cls in (local.LocalConv, local.LocalConvTranspose, local.LowRankConv)
    ]
    for layer in layers:
        for shape in ((1, 9, 8, 3), (1, 8, 8, 2)):
            with pytest.raises(ValueError, match="see image_size"):
                jax.eval_shape(layer, jnp.ones(shape))
