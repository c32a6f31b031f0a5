from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxws import LocalConv, LocalDense, share_weights, to_conv, to_local
from jaxws.models import ResNet, resnet18, resnet_cifar
from tests.support.drawn import drawn_variables, normal

# Every kind of layer once, and whole networks.
small = partial(ResNet, (0, 1), width=4, num_classes=7)


@pytest.mark.parametrize(
    ("build", "size"),
    [
        (small, 13),
        (partial(small, imagenet_stem=True), 35),
        pytest.param(partial(resnet_cifar, 8, width=4, num_classes=7), 13, marks=pytest.mark.slow),
        pytest.param(partial(resnet18, width=4, num_classes=7), 35, marks=pytest.mark.slow),
    ],
    ids=["cifar", "imagenet", "resnet8", "resnet18"],
)
def test_whole_network_computes_the_same(build, size):
    conv, local = build(conv=nn.Conv), build(conv=LocalConv)
    x = normal((3, size, size - 2, 3), 2)
    variables = drawn_variables(conv, x)
    like = jax.eval_shape(local.init, jax.random.key(0), x)["params"]
    params = to_local(variables["params"], like)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, like)

    def loss(params, x, model, convert):
        y, updates = model.apply(
            variables | {"params": convert(params)}, x, train=True, mutable=["batch_stats"]
        )
        return jnp.sum(jnp.sin(y)), (y, updates)

    # Through to_local, the gradient of a filter adds up those of all its copies.
    results = [
        jax.jit(jax.value_and_grad(partial(loss, model=model, convert=convert), (0, 1), True))(
            variables["params"], x
        )
        for model, convert in ((conv, lambda p: p), (local, lambda p: to_local(p, like)))
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), *results)


def test_to_conv_inverts_to_local():
    conv, local = nn.Conv(4, (3, 2)), LocalConv(4, (3, 2))
    x = jnp.ones((1, 6, 5, 3))
    params = drawn_variables(conv, x)["params"]
    like = jax.eval_shape(local.init, jax.random.key(0), x)["params"]
    back = to_conv(to_local(params, like))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), back, params)


def test_to_conv_of_globally_shared_weights_loses_nothing():
    layer, x = (
        LocalConv(4, (3, 3), use_bias=False),
        normal((2, 6, 5, 3), 1),
    )
    params = share_weights(layer.init(jax.random.key(0), x)["params"], pools="global")
    y = nn.Conv(4, (3, 3), use_bias=False).apply({"params": to_conv(params)}, x)
    np.testing.assert_allclose(y, layer.apply({"params": params}, x), rtol=1e-4, atol=1e-5)


def test_dense_and_local_dense():
    dense, local, x = nn.Dense(3), LocalDense(3), jnp.ones((2, 7, 5))
    params = drawn_variables(dense, x)["params"]
    like = jax.eval_shape(local.init, jax.random.key(0), x)["params"]
    untied = to_local(params, like)
    np.testing.assert_allclose(
        local.apply({"params": untied}, x), dense.apply({"params": params}, x), rtol=1e-5
    )
    back = to_conv(untied, like=params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), back, params)


def test_nnx_state():
    state = nnx.State({"conv": {"kernel": nnx.Param(jnp.ones((3, 3, 1, 2)))}})
    like = nnx.State({"conv": {"local_kernel": nnx.Param(jnp.zeros((4, 4, 3, 3, 1, 2)))}})
    local = to_local(state, like)
    assert isinstance(local, nnx.State)
    assert local["conv"]["local_kernel"][...].shape == (4, 4, 3, 3, 1, 2)
    back = to_conv(local)
    assert isinstance(back, nnx.State)
    np.testing.assert_array_equal(back["conv"]["kernel"][...], state["conv"]["kernel"][...])


def test_under_jit_keeps_dtype():
    like = {"local_kernel": jax.ShapeDtypeStruct((4, 4, 3, 3, 1, 2), jnp.float32)}
    params = {"kernel": jnp.ones((3, 3, 1, 2), jnp.bfloat16)}
    local = jax.jit(lambda p: to_local(p, like))(params)
    assert local["local_kernel"].dtype == jnp.bfloat16
    assert jax.jit(to_conv)(local)["kernel"].dtype == jnp.bfloat16


def test_mismatches_are_listed():
    like = {
        "a": {"local_kernel": jnp.ones((4, 4, 3, 3, 1, 2))},
        "b": {"kernel": jnp.ones((3,))},
        "c": {"local_kernel": jnp.ones((4, 4, 3, 3, 1, 2))},
    }
    params = {
        "a": {"kernel": jnp.ones((3, 3, 2, 2))},
        "b": {"kernel": jnp.ones((3,)), "bias": jnp.ones(1)},
        "d": {"kernel": jnp.ones((1,))},
    }
    with pytest.raises(ValueError) as error:
        to_local(params, like)
    message = str(error.value)
    assert "a/local_kernel: has shape (3, 3, 2, 2)" in message
    assert "b/bias: left over" in message
    assert "c: missing" in message
    assert "d: left over" in message


def test_lists_and_tuples_of_layers():
    like = [{"local_kernel": jnp.ones((4, 4, 3, 3, 1, 2))}, ({"scale": jnp.ones(2)},)]
    params = [{"kernel": jnp.ones((3, 3, 1, 2))}, ({"scale": jnp.ones(2)},)]
    local = to_local(params, like)
    assert jax.tree.map(jnp.shape, local) == jax.tree.map(jnp.shape, like)
    jax.tree.map(np.testing.assert_array_equal, to_conv(local), params)


def test_only_leaves_of_lc_layers_are_repeated():
    like = {"bn": {"scale": jnp.ones((7, 3))}}
    with pytest.raises(ValueError, match=r"bn/scale: has shape \(3,\)"):
        to_local({"bn": {"scale": jnp.ones(3)}}, like)


@pytest.mark.devices(8)
def test_under_vmap_grad_and_pmap():
    like = {"local_kernel": jax.ShapeDtypeStruct((4, 5, 3, 3, 1, 2), jnp.float32)}
    kernels = normal((8, 3, 3, 1, 2))
    for mapped in (jax.vmap, jax.pmap):
        local = mapped(lambda p: to_local(p, like))({"kernel": kernels})
        assert local["local_kernel"].shape == (8, 4, 5, 3, 3, 1, 2)
        back = mapped(to_conv)(local)["kernel"]
        np.testing.assert_allclose(back, kernels, rtol=1e-6)
    # to_local copies each filter to 20 places; to_conv averages them.
    grad = jax.grad(lambda p: to_local(p, like)["local_kernel"].sum())({"kernel": kernels[0]})
    np.testing.assert_allclose(grad["kernel"], 20)
    grad = jax.grad(lambda p: to_conv(p)["kernel"].sum())(to_local({"kernel": kernels[0]}, like))
    np.testing.assert_allclose(grad["local_kernel"], 1 / 20, rtol=1e-6)


@pytest.mark.devices(8)
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_features_stay_sharded(axis_type):
    mesh = jax.make_mesh((8,), ("d",), axis_types=(axis_type,))
    like = {"local_kernel": jax.ShapeDtypeStruct((4, 5, 3, 3, 1, 16), jnp.float32)}
    kernel = jax.device_put(jnp.ones((3, 3, 1, 16)), NamedSharding(mesh, P(None, None, None, "d")))
    local = jax.jit(lambda p: to_local(p, like))({"kernel": kernel})["local_kernel"]
    assert local.sharding.spec[-1] == "d"
    back = jax.jit(to_conv)({"local_kernel": local})["kernel"]
    assert back.sharding.is_equivalent_to(kernel.sharding, 4)
