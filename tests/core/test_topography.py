"""Smoothness and similarity of filters against loops in NumPy, and their derivatives."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxws import share_weights
from jaxws.core.packed import pack_kernels
from jaxws.core.pooled import pool_kernels
from jaxws.core.similarity import similarity_loss
from jaxws.core.topography import smoothness_loss

SHAPES = {
    "1d": (7, 3, 2, 3),
    "2d": (4, 5, 3, 2, 2, 6),
    "3d": (3, 1, 4, 2, 1, 2, 1, 2),  # no neighbours along one axis
}
EACH_SHAPE = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
LOSSES = {
    "positions": smoothness_loss,
    "grid": similarity_loss,
    "global": partial(similarity_loss, pools="global"),
}
EACH_LOSS = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def draw(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape) + 0.3


def cosine(a, b):
    return a @ b / np.sqrt((a @ a) * (b @ b))


def smoothness(units):
    """Of vectors by position in an array of objects: a loop over pairs of neighbours."""
    means = []
    for axis in range(units.ndim):
        cosines = []
        for at in np.ndindex(units.shape):
            after = tuple(n + (a == axis) for a, n in enumerate(at))
            if after[axis] < units.shape[axis]:
                cosines += map(cosine, units[at], units[after])
        means += [np.mean(cosines)] if cosines else []
    return (1 - np.mean(means)) / 2


def by_position(kernel):
    """At each position, the filters of its features one by one."""
    ndim = kernel.ndim // 2 - 1
    units = np.empty(kernel.shape[:ndim], object)
    for at in np.ndindex(units.shape):
        units[at] = list(kernel[at].reshape(-1, kernel.shape[-1]).T)
    return units


def sheet(kernel, rows, columns):
    h, w, *_ = kernel.shape
    units = np.empty((h * rows, w * columns), object)
    for y, x in np.ndindex(units.shape):
        feature = (y % rows) * columns + x % columns
        units[y, x] = [kernel[y // rows, x // columns, ..., feature].ravel()]
    return units


def similarity(kernel, pools):
    ndim = kernel.ndim // 2 - 1
    periods = [min(k, n) for k, n in zip(kernel.shape[ndim : 2 * ndim], kernel.shape, strict=False)]
    periods = periods if pools == "grid" else [1] * ndim
    noise, signal = [], []
    for start in itertools.product(*map(range, periods)):
        pool = kernel[tuple(slice(s, None, p) for s, p in zip(start, periods, strict=True))]
        pool = pool.reshape(-1, *kernel.shape[ndim:])
        if len(pool) > 1:
            noise.append(pool.var(0))
            signal.append(pool.mean(0) ** 2)
    return np.mean(noise) / np.mean(signal)


@EACH_SHAPE
def test_losses_are_those_of_a_loop_and_gradients_finite_differences(shape):
    kernels, directions = ([draw(shape, seed + i) for i in range(2)] for seed in (0, 2))
    losses = dict(LOSSES)
    if len(shape) == 6:
        losses["sheet"] = partial(smoothness_loss, arrangement="sheet")

    @jax.jit
    def evaluate(*kernels):
        params = {f"layer{i}": {"local_kernel": kernel} for i, kernel in enumerate(kernels)}
        return {name: loss(params) for name, loss in losses.items()}

    with jax.enable_x64(True):
        values = evaluate(*kernels)
        gradients = jax.jit(jax.jacrev(evaluate, argnums=(0, 1)))(*kernels)
        step = 1e-5
        ends = [
            evaluate(*(k + sign * step * d for k, d in zip(kernels, directions, strict=True)))
            for sign in (1, -1)
        ]
    values, gradients, ends = jax.device_get((values, gradients, ends))
    references = {
        "positions": lambda k: smoothness(by_position(k)),
        "sheet": lambda k: smoothness(sheet(k, 2, 3)),
        "grid": partial(similarity, pools="grid"),
        "global": partial(similarity, pools="global"),
    }
    for name, value in values.items():
        expected = np.mean([references[name](k) for k in kernels])
        np.testing.assert_allclose(value, expected, rtol=1e-12, err_msg=name)
        slope = (ends[0][name] - ends[1][name]) / (2 * step)
        along = sum(np.sum(g * d) for g, d in zip(gradients[name], directions, strict=True))
        np.testing.assert_allclose(along, slope, rtol=1e-6, err_msg=name)


@EACH_LOSS
def test_scale_does_not_matter_and_layouts_are_the_same(loss):
    shape = (6, 6, 3, 3, 2, 4)
    params = {"local_kernel": jnp.asarray(draw(shape), jnp.float32)}
    loss = jax.jit(loss)
    value = loss(params)
    assert value > 0
    for other in (jax.tree.map(lambda a: 8 * a, params), pack_kernels(params)):
        np.testing.assert_allclose(loss(other), value, rtol=1e-5)
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)
    assert loss(half).dtype == jnp.float32
    np.testing.assert_allclose(loss(half), value, rtol=1e-2)
    pooled = pool_kernels(params)
    np.testing.assert_allclose(loss(pooled), loss(share_weights(params)), rtol=1e-5, atol=1e-6)


@EACH_LOSS
def test_equal_filters_have_no_loss_and_no_gradient(loss):
    params = {"local_kernel": jnp.broadcast_to(jnp.asarray(draw((2, 1, 3))), (5, 2, 1, 3))}
    both = jax.jit(jax.value_and_grad(loss))
    value, gradient = both(params)
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_allclose(gradient["local_kernel"], 0, atol=1e-6)
    nothing = {"local_kernel": jnp.zeros((5, 2, 1, 3))}
    value, gradient = both(nothing)
    assert np.isfinite(value) and not np.any(gradient["local_kernel"])


def test_weights_that_a_mask_removes_do_not_count():
    kernel = draw((6, 2, 2, 3))
    present = np.random.default_rng(3).random((6, 1, 2, 3)) < 0.8
    present[0] = True
    params = {"masked_local_kernel": jnp.asarray(kernel)}
    expected = smoothness(by_position(np.where(present, kernel, 0)))
    np.testing.assert_allclose(smoothness_loss(params, mask=present), expected, rtol=1e-5)
    for loss in map(jax.jit, LOSSES.values()):
        noise = {"masked_local_kernel": jnp.where(present, params["masked_local_kernel"], 7.0)}
        np.testing.assert_allclose(loss(noise, mask=present), loss(params, mask=present), rtol=1e-5)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: smoothness_loss({"kernel": jnp.ones(3)}), "found no leaf named 'local_kernel'"),
        (lambda: smoothness_loss({"local_kernel": jnp.ones((1, 3, 2, 2))}), "no layer has neigh"),
        (lambda: similarity_loss({"local_kernel": jnp.ones((3, 3, 2, 2))}), "no layer has pools"),
        (
            lambda: smoothness_loss({"local_kernel": jnp.ones((4, 3, 2, 2))}, arrangement="sheet"),
            "1 position axes: a sheet has two",
        ),
        (
            lambda: smoothness_loss({"local_kernel": jnp.ones((4, 3, 2, 2))}, arrangement="ring"),
            "arrangement='ring': expected one of",
        ),
    ],
)
def test_what_cannot_be_compared_is_told(call, match):
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.devices(2)
def test_similarity_where_shard_map_splits_the_positions():
    kernel = jnp.asarray(draw((6, 3, 2, 2)), jnp.float32)
    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))

    def both(kernel, axis_name=None):
        loss = partial(similarity_loss, axis_name=axis_name)
        return jax.value_and_grad(lambda k: loss({"local_kernel": k}))(kernel)

    split = jax.shard_map(
        partial(both, axis_name="x"), mesh=mesh, in_specs=P("x"), out_specs=(P(), P("x"))
    )
    expected, actual = jax.jit(both)(kernel), jax.jit(split)(kernel)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), actual, expected)
