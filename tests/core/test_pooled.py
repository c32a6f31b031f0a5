"""Kernels kept as one filter per pool, against the same kernels with every position's weights."""

from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxws import LocalConv, local_conv, share_weights
from jaxws.core.implementations import mosaic, native
from jaxws.core.implementations.spec import Spec
from jaxws.core.packed import pack_kernels, unpack_kernels
from jaxws.core.pooled import PooledKernel, expand_pools, pool_kernels, probes, with_probes
from jaxws.core.window import make_window
from jaxws.data.batch import Batch
from jaxws.models import ResNet, resnet_cifar
from jaxws.training.evaluation import eval_step
from jaxws.training.state import create_train_state
from jaxws.training.step import train_step
from jaxws.training.weight_sharing import Sharing
from tests.support.small_run import Small

IMPLEMENTATIONS = ["slices", "triton"] + ["native"] * native.available()
LAYERS = [
    # images, channels, features, kernel size, arguments
    ((7, 5), 3, 4, (3, 3), {}),
    ((8, 9), 4, 6, (3, 2), {"strides": 2, "padding": 1, "feature_group_count": 2}),
    ((2, 6), 2, 3, (3, 3), {"padding": 1}),  # fewer rows than pools
    ((11,), 3, 2, (4,), {"dilation": 2, "padding": 2}),
    ((3, 4, 5), 2, 2, (2, 1, 3), {}),
]


def make_layer(size, c, f, kernel_size, arguments, pools="grid"):
    """An image, and a kernel whose weights are shared, pooled and as an array."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(5, *size, c)), jnp.float32)
    window = make_window(
        size, kernel_size, *(arguments.get(k, d) for k, d in (("strides", 1), ("padding", "SAME"))),
        arguments.get("dilation", 1),
    )  # fmt: skip
    groups = arguments.get("feature_group_count", 1)
    shape = (*window.output_size, *kernel_size, c // groups, f)
    kernel = share_weights(
        {"local_kernel": jnp.asarray(rng.normal(size=shape), jnp.float32)}, pools=pools
    )
    return x, kernel["local_kernel"], pool_kernels(kernel, pools=pools)["local_kernel"]


def values_and_gradients(function, *arguments):
    """In one program, which is compiled in half the time of one for each direction."""

    @jax.jit
    def run(*arguments):
        y, vjp = jax.vjp(function, *arguments)
        return y, *vjp(jnp.cos(y))

    return run(*arguments)


@cache
def layer_of_all_weights(index, pools):
    """A layer of LAYERS, and what it computes where every position has weights of its own."""
    layer = LAYERS[index]
    x, kernel, pooled = make_layer(*layer, pools=pools)
    assert (pooled.shape, pooled.ndim, pooled.dtype) == (kernel.shape, kernel.ndim, kernel.dtype)
    np.testing.assert_array_equal(PooledKernel(pooled.filters, pooled.positions).spread(), kernel)

    def expected(x, filters, probe):
        kernel = PooledKernel(filters, pooled.positions).spread() + probe
        return local_conv(x, kernel, implementation="patches", **layer[-1])

    arguments = (x, pooled.filters, np.zeros(kernel.shape, np.float32))
    return pooled, arguments, values_and_gradients(expected, *arguments)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("index", "pools"), [*((index, "grid") for index in range(len(LAYERS))), (1, "global")]
)
def test_layers_and_their_gradients_are_those_of_all_weights(index, implementation, pools):
    pooled, arguments, expected = layer_of_all_weights(index, pools)

    def ours(x, filters, probe):
        node = PooledKernel(filters, pooled.positions, probe)
        return local_conv(x, node, implementation=implementation, **LAYERS[index][-1])

    actual = values_and_gradients(ours, *arguments)
    chex.assert_trees_all_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "layer",
    [
        LAYERS[0],
        pytest.param(((9, 8), 3, 5, (3, 3), {"strides": 2}), marks=pytest.mark.slow),
        LAYERS[3],
    ],
)
def test_the_kernels_for_tpus(layer, monkeypatch):
    x, kernel, pooled = make_layer(*layer)
    arguments = {"strides": 1, "padding": "SAME", "dilation": 1} | layer[-1]
    window = make_window(x.shape[1:-1], layer[3], *arguments.values())
    spec = Spec(window, 1, np.dtype("float32"), np.dtype("float32"), jax.lax.Precision.HIGHEST)
    x = jnp.moveaxis(x, 0, -1)

    def program():  # a new function each time, or JAX would keep the one traced before
        def run(weights):
            y = mosaic.forward(x, weights, spec, interpret=True)
            return y, mosaic.input_gradient(y, weights, spec, interpret=True)

        return jax.jit(run)

    expected = program()(kernel)
    chex.assert_trees_all_close(program()(pooled.filters), expected, rtol=1e-5, atol=1e-5)
    # Where the filters do not fit on the chip, all positions' weights are written out.
    plan, refused = mosaic.make_plan, []

    def without_room(*args, filters=None, **kwargs):
        refused.append(filters)
        return None if filters else plan(*args, **kwargs)

    monkeypatch.setattr(mosaic, "make_plan", without_room)
    chex.assert_trees_all_close(program()(pooled.filters), expected, rtol=1e-5, atol=1e-5)
    assert any(refused)


def test_gradients_of_gradients_without_a_probe():
    x, _, pooled = make_layer(*LAYERS[0])

    def penalty(filters, implementation):
        def loss(x):
            y = local_conv(
                x, PooledKernel(filters, pooled.positions), implementation=implementation
            )
            return jnp.sum(jnp.sin(y))

        return jnp.sum(jnp.square(jax.grad(loss)(x)))

    actual, expected = (
        jax.jit(jax.grad(penalty), static_argnums=1)(pooled.filters, name)
        for name in (None, "slices")
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pools", ["grid", "global"])
@pytest.mark.parametrize("pack", [lambda tree: tree, pack_kernels])
def test_pooling_is_sharing(pack, pools):
    kernel = np.random.default_rng(0).normal(size=(5, 4, 3, 3, 2, 5)).astype(np.float32)
    tree = {"conv1": {"local_kernel": jnp.asarray(kernel), "bias": jnp.ones(3)}, "steps": 7}
    # One program each; op by op they take many times as long to compile.
    share, pool = (jax.jit(partial(f, pools=pools)) for f in (share_weights, pool_kernels))
    spread, share_pooled = jax.jit(expand_pools), jax.jit(share_weights)
    shared, pooled = share(pack(tree)), pool(pack(tree))
    written = spread(pooled)
    chex.assert_trees_all_equal(written, shared)
    # Idempotent to the last bit: a checkpoint of spread weights pools to what it was made from.
    chex.assert_trees_all_equal(pool(written), pooled)
    assert expand_pools(tree) == tree
    chex.assert_trees_all_equal(spread(with_probes(pooled, probes(pooled))), shared)
    chex.assert_trees_all_equal(share_pooled(pooled), pooled)


def make_training(model):
    optimizer = optax.adamw(1e-3)
    create = partial(create_train_state, model=model, optimizer=optimizer, image_shape=(8, 8, 3))
    state = jax.jit(create)(jax.random.key(0))
    image = jax.random.normal(jax.random.key(1), (16, 8, 8, 3))
    batch = Batch(image, jnp.arange(16) % 4, mask=None)
    sharing = Sharing(every=1, pools="grid", steps_per_epoch=10)
    step = jax.jit(partial(train_step, model=model, optimizer=optimizer, sharing=sharing))
    return batch, step, step(state, batch)[0]


@pytest.mark.parametrize(
    ("model", "pack", "steps"),
    [
        (ResNet((0, 1), 2, 4, LocalConv), lambda tree: tree, 10),  # every kind of layer once
        (Small(classes=4, dtype="float32"), pack_kernels, 10),
        pytest.param(
            resnet_cifar(8, width=2, conv=LocalConv),
            lambda tree: tree,
            100,
            marks=pytest.mark.slow,
        ),
    ],
    ids=["plain", "packed", "a whole network"],
)
def test_steps_equal_those_of_all_weights(model, pack, steps):
    batch, step, state = make_training(model)
    pooled = pack(state)
    pooled = pooled.replace(params=jax.jit(pool_kernels)(pooled.params))
    losses = []
    for _ in range(steps):
        state, metrics, _ = step(state, batch)
        pooled, *others = step(pooled, batch)
        losses.append(float(metrics["loss"]))
        np.testing.assert_allclose(others[0]["loss"], metrics["loss"], rtol=1e-5)
    assert losses[-1] < losses[0]
    assert isinstance(pooled.params["conv1"]["local_kernel"], PooledKernel)
    spread = unpack_kernels(pooled.replace(params=jax.jit(expand_pools)(pooled.params)))
    chex.assert_trees_all_equal_structs(spread, state)
    leaves = (jax.tree.leaves(jax.device_get(tree)) for tree in (spread, state))
    for actual, expected in zip(*leaves, strict=True):
        scale = max(np.abs(expected).max(), 1e-3)
        np.testing.assert_allclose(actual / scale, expected / scale, atol=1e-5)
    evaluate = jax.jit(partial(eval_step, model=model))
    expected = evaluate(state.params, state.batch_stats, batch)
    actual = evaluate(pooled.params, pooled.batch_stats, batch)
    np.testing.assert_allclose(actual["loss"], expected["loss"], rtol=1e-5)
