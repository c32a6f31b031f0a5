"""Pools of layers in which a mask removes weights, against loops in NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxws import (
    LocalConv,
    pool_mean,
    pool_sizes,
    pool_variance,
    share_weights,
    to_conv,
    to_local,
    weight_snr,
)
from jaxws.core.packed import pack_kernels
from jaxws.core.pooled import pool_kernels
from jaxws.dynamics import sleep_phase
from tests.support.drawn import normal

RNG = np.random.default_rng(0)
SHAPES = {"1-D": (7, 3, 2, 4), "2-D": (5, 4, 3, 2, 3, 2), "3-D": (3, 2, 4, 2, 1, 3, 2, 2)}


def _layer(shape, mask_shape=None, dtype=np.float32):
    kernel = RNG.normal(2, 1, shape).astype(dtype)
    mask = RNG.uniform(size=mask_shape or shape) > 0.4
    return kernel, mask


def _by_loop(kernel, mask, pools):
    """Mean, variance and number of the weights of each pool that are there."""
    ndim = kernel.ndim // 2 - 1
    periods = kernel.shape[ndim : 2 * ndim] if pools == "grid" else (1,) * ndim
    periods = tuple(map(min, periods, kernel.shape))
    mask = np.broadcast_to(mask, kernel.shape)
    statistics = np.zeros((3, *periods, *kernel.shape[ndim:]))
    for pool in np.ndindex(*periods):
        members = tuple(slice(a, None, p) for a, p in zip(pool, periods, strict=True))
        for weight in np.ndindex(*kernel.shape[ndim:]):
            there = kernel[(*members, *weight)][mask[(*members, *weight)]].astype(np.float64)
            if there.size:
                statistics[(slice(None), *pool, *weight)] = there.mean(), there.var(), there.size
    return statistics


def in_one(function, **arguments):
    """One program; op by op it takes many times as long to compile."""
    return jax.jit(partial(function, **arguments))


def _assert_close(actual, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), actual, expected)


@pytest.mark.parametrize(
    ("shape", "pools"), [("1-D", "global"), ("2-D", "grid"), ("2-D", "global"), ("3-D", "grid")]
)
def test_statistics_of_what_is_there(shape, pools):
    kernel, mask = _layer(SHAPES[shape])
    kernel[~mask] = 1e6  # what is removed may be anything
    mean, variance, count = _by_loop(kernel, mask, pools)
    arguments = {"pools": pools, "mask": mask}
    np.testing.assert_allclose(in_one(pool_mean, **arguments)(kernel), mean, rtol=1e-5)
    np.testing.assert_allclose(
        in_one(pool_variance, **arguments)(kernel), variance, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_array_equal(pool_sizes(kernel, pools=pools, mask=mask), count)
    several = count > 1
    expected = np.mean(mean[several] ** 2 / variance[several])
    np.testing.assert_allclose(
        in_one(weight_snr, **arguments)({"local_kernel": kernel})[""], expected, rtol=1e-3
    )


@pytest.mark.parametrize("removed", [np.nan, -3e38])
def test_what_is_removed_never_reaches_what_is_there(removed):
    kernel, mask = _layer(SHAPES["2-D"])
    kernel[~mask] = removed
    shared = share_weights({"local_kernel": kernel}, mask=mask)["local_kernel"]
    assert np.isfinite(shared[mask]).all()


@pytest.mark.parametrize("mask_shape", [(5, 4, 1, 1, 1, 1), (2,)])
def test_masks_that_broadcast(mask_shape):
    kernel, mask = _layer(SHAPES["2-D"], mask_shape)
    params = {"local_kernel": kernel}
    whole = np.broadcast_to(mask, kernel.shape)
    for function in (share_weights, to_conv, weight_snr):
        _assert_close(function(params, mask=mask), function(params, mask=whole))


def test_sharing_is_idempotent_to_the_last_bit_and_linear():
    kernel, mask = _layer(SHAPES["2-D"])
    share = jax.jit(lambda k: share_weights({"local_kernel": k}, mask=mask)["local_kernel"])
    shared = share(kernel)
    np.testing.assert_array_equal(share(shared), shared)
    assert np.isinf(weight_snr({"local_kernel": shared}, mask=mask)[""])
    np.testing.assert_allclose(share(2 * kernel + 1)[mask], (2 * shared + 1)[mask], rtol=1e-5)
    # A sum of a pool's equal shares: its gradient is spread over the weights that are there.
    gradient = jax.grad(lambda k: share(k)[mask].sum())(jnp.asarray(kernel))
    np.testing.assert_allclose(gradient, mask.astype(np.float32), atol=1e-5)


def test_a_mask_of_ones_changes_nothing():
    kernel, _ = _layer(SHAPES["2-D"])
    params = {"local_kernel": kernel}
    for function in (share_weights, to_conv, weight_snr):
        _assert_close(function(params, mask=np.ones(())), function(params))


@pytest.fixture(scope="module")
def masked():
    """A layer that computes a convolution with partial connectivity, whatever the mask removes."""
    mask = np.random.default_rng(1).uniform(size=(6, 6, 3, 3, 2, 4)) > 0.4
    layer = LocalConv(4, (3, 3), mask=jnp.asarray(mask), use_bias=False)
    x = normal((3, 6, 6, 2))
    variables = layer.init(jax.random.key(1), x)
    conv = {"kernel": normal((3, 3, 2, 4), 2)}
    tied = to_local(conv, variables["params"])
    noise = jnp.where(mask, 0, variables["params"]["masked_local_kernel"])
    params = {"masked_local_kernel": tied["masked_local_kernel"] + noise}
    return layer, x, {**variables, "params": params}, conv


def test_sharing_keeps_what_a_masked_layer_computes(masked):
    layer, x, variables, conv = masked
    params, masks = variables["params"], variables["masks"]
    apply, shared = jax.jit(layer.apply), in_one(share_weights, mask=masks)(params)
    y = apply(variables, x)
    np.testing.assert_allclose(apply({**variables, "params": shared}, x), y, atol=1e-5)
    back = in_one(to_conv, mask=masks)(params)
    np.testing.assert_allclose(back["kernel"], conv["kernel"], rtol=1e-5)
    assert in_one(weight_snr, mask=masks)(params)[""] > 1e10


def test_the_mask_of_the_variables_counts(masked):
    layer, x, variables, _ = masked
    np.testing.assert_array_equal(
        layer.apply({"params": variables["params"]}, x), layer.apply(variables, x)
    )
    none = jax.tree.map(jnp.zeros_like, variables["masks"])
    assert not layer.apply({**variables, "masks": none}, x).any()


def test_a_mask_that_is_not_given_is_an_error(masked):
    params = {"conv1": masked[2]["params"], "conv2": {"local_kernel": jnp.ones((4, 3, 1, 1))}}
    for function in (share_weights, weight_snr, to_conv, pool_kernels):
        for missing_ok in (False, True):
            with pytest.raises(ValueError, match="layer 'conv1' has a mask"):
                function(params, missing_ok=missing_ok)
    with pytest.raises(ValueError, match="layer 'conv1' has a mask"):
        sleep_phase(jax.random.key(0), params)
    assert pack_kernels(params)["conv1"] is not None  # needs none


def test_masks_that_do_not_fit_are_named(masked):
    params = {"conv1": masked[2]["params"]}
    with pytest.raises(ValueError, match=r"entry for 'conv2'.*expected some of 'conv1'"):
        share_weights(params, mask={"conv1": np.ones(()), "conv2": np.ones(())})
    with pytest.raises(ValueError, match=r"layer 'conv1' has shape \(3,\): expected one that"):
        share_weights(params, mask={"conv1": np.ones(3)})
    with pytest.raises(ValueError, match="expected an array"):
        share_weights(pack_kernels({"local_kernel": jnp.ones((4, 3, 1, 1))}), mask=np.ones(()))
