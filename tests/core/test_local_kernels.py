"""Which leaves are filters of LC layers, in whatever pytree, and what is said where none is."""

import dataclasses
from collections import namedtuple
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxws import share_weights, to_conv, to_local, weight_snr
from jaxws.core.local_kernels import to_arrays
from jaxws.core.packed import pack_kernels
from jaxws.core.pooled import expand_pools, pool_kernels
from jaxws.core.sharing import pool_mean, pool_variance
from jaxws.dynamics import sleep_phase
from tests.support.drawn import normal

KERNEL = normal((7, 5, 3, 2, 2, 4))


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["local_kernel", "bias"],
    meta_fields=["kernel_size", "shape"],
)
@dataclasses.dataclass
class Layer:
    """A layer of somebody else's library, with attributes that our own layouts have as well."""

    local_kernel: jax.Array
    bias: jax.Array
    kernel_size: tuple[int, int] = (3, 2)
    shape: tuple[int, ...] = ()


class Module(nnx.Module):
    def __init__(self):
        self.local_kernel = nnx.Param(KERNEL)
        self.kernel_size = (3, 2)


Pair = namedtuple("Pair", ["first", "local_kernel"])

TREES = {
    "dataclass": lambda: Layer(KERNEL, jnp.ones(4)),
    "nested dataclass": lambda: {"encoder": [Layer(KERNEL, jnp.ones(4)), jnp.ones(2)]},
    "namedtuple": lambda: Pair(jnp.ones(3), KERNEL),
    "nnx state": lambda: nnx.state(Module()),
    "boxed": lambda: {"local_kernel": nn.Partitioned(KERNEL, ("h",) + (None,) * 5)},
    "none leaves": lambda: {"a": None, "conv": {"local_kernel": KERNEL, "bias": None}},
}


def kernel_of(tree):
    (kernel,) = [leaf for leaf in jax.tree.leaves(tree) if leaf.ndim == 6]
    return kernel


@pytest.mark.parametrize("name", TREES)
def test_filters_are_found_in_any_pytree(name):
    tree = TREES[name]()
    shared = share_weights(tree)
    assert jax.tree.structure(shared) == jax.tree.structure(tree)
    expected = share_weights({"local_kernel": KERNEL})["local_kernel"]
    np.testing.assert_array_equal(kernel_of(shared), expected)
    assert np.ptp(expected[::3, ::2], axis=(0, 1)).max() == 0 < np.ptp(KERNEL[::3, 0, 0, 0, 0, 0])
    (before,), (after,) = weight_snr(tree).values(), weight_snr(shared).values()
    assert np.isfinite(before) and np.isinf(after)


def test_transformations_see_the_same_leaves():
    layer = Layer(KERNEL, jnp.ones(4))
    expected = share_weights(layer).local_kernel
    np.testing.assert_array_equal(jax.jit(share_weights)(layer).local_kernel, expected)
    copies = jax.tree.map(lambda a: jnp.stack([a, a]), layer)
    np.testing.assert_array_equal(jax.vmap(share_weights)(copies).local_kernel[1], expected)
    gradient = jax.grad(lambda tree: share_weights(tree).local_kernel.sum())(layer)
    np.testing.assert_allclose(gradient.local_kernel, 1, rtol=1e-6)


NOTHING = {
    "no leaf at all": ({}, "the leaves have no names"),
    "a convolution": ({"conv1": {"kernel": KERNEL, "bias": KERNEL}}, "named 'bias', 'kernel'"),
    "a misspelt name": ({"lc": {"local_kernels": KERNEL}}, "named 'local_kernels'"),
    "a bare array": (KERNEL, "the leaves have no names"),
    "a list": ([KERNEL, KERNEL], "named '0', '1'"),
    "a module of others": ({"w": Layer(KERNEL, jnp.ones(4)).bias}, "named 'w'"),
    "many names": ({f"w{i:02}": KERNEL for i in range(30)}, r"'w10', 'w11', \.\.\."),
}
FUNCTIONS = {
    "share_weights": share_weights,
    "weight_snr": weight_snr,
    "pool_kernels": pool_kernels,
    "to_conv": to_conv,
    "to_local": lambda tree, **ok: to_local(tree, tree, **ok),
    "sleep_phase": lambda tree, **ok: sleep_phase(jax.random.key(0), tree, **ok),
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("case", NOTHING)
def test_where_there_is_nothing_to_do_it_is_said(case, function):
    tree, names = NOTHING[case]
    call = FUNCTIONS[function]
    message = f"{function} found no leaf named 'local_kernel': .*{names}"
    with pytest.raises(ValueError, match=message):
        call(tree)
    same = call(tree, missing_ok=True)
    if function == "weight_snr":
        assert same == {}
    else:
        jax.tree.map(np.testing.assert_array_equal, same, tree)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("first", ["grid", "global"])
@pytest.mark.parametrize("second", ["grid", "global"])
def test_pooled_kernels_are_shared_and_measured_as_the_weights_that_they_stand_for(
    packed, first, second
):
    params = {"conv1": {"local_kernel": KERNEL, "bias": jnp.ones(4)}}
    pooled = pool_kernels(pack_kernels(params) if packed else params, pools=first)
    plain = to_arrays(pooled)
    again = share_weights(pooled, pools=second)
    assert type(again["conv1"]["local_kernel"]) is type(pooled["conv1"]["local_kernel"])
    expected = share_weights(plain, pools=second)
    jax.tree.map(np.testing.assert_array_equal, to_arrays(again), expected)
    jax.tree.map(
        np.testing.assert_array_equal, to_arrays(pool_kernels(pooled, pools=second)), expected
    )
    snr, measured = weight_snr(plain, pools=second), weight_snr(pooled, pools=second)
    np.testing.assert_allclose(measured["conv1"], snr["conv1"], rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, to_conv(pooled), to_conv(plain))
    kernel, array = pooled["conv1"]["local_kernel"], plain["conv1"]["local_kernel"]
    if not packed:
        for function in (pool_mean, pool_variance):
            np.testing.assert_allclose(
                function(kernel, pools=second), function(array, pools=second), atol=1e-6
            )
    for repacked in (pack_kernels(expand_pools(pooled)), pack_kernels(pooled)):
        jax.tree.map(np.testing.assert_array_equal, to_arrays(repacked), plain)


def test_a_packed_network_is_converted_as_a_plain_one():
    params = {"conv1": {"local_kernel": KERNEL}}
    np.testing.assert_array_equal(
        to_conv(pack_kernels(params))["conv1"]["kernel"], to_conv(params)["conv1"]["kernel"]
    )


def test_a_phase_changes_the_layers_that_are_not_pooled():
    pooled = pool_kernels({"conv1": {"local_kernel": KERNEL}})
    params = pooled | {"conv2": {"local_kernel": KERNEL}}
    slept = jax.jit(sleep_phase)(jax.random.key(0), params)
    np.testing.assert_array_equal(
        slept["conv1"]["local_kernel"].filters, pooled["conv1"]["local_kernel"].filters
    )
    assert (slept["conv2"]["local_kernel"] != KERNEL).any()
