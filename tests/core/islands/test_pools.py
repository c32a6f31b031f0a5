"""Sharing weights on a mesh: what it does on one device, for one sum of the pools' size a layer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxws import share_weights, weight_snr
from jaxws.core.islands.sums import pieces
from jaxws.core.packed import pack_kernels
from jaxws.core.pooled import expand_pools, pool_kernels
from jaxws.parallel.mesh import make_mesh

SHAPES = {
    "rows_and_columns": (8, 16, 3, 3, 2, 4),  # slabs that start within a pool's period
    "short_slabs": (8, 4, 7, 3, 1, 4),  # shorter than it
    "features": (5, 7, 3, 3, 2, 8),
    "copies": (5, 7, 3, 3, 2, 3),
    "tokens": (16, 1, 3, 4),
}


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    return {
        name: {"local_kernel": rng.normal(size=shape).astype(np.float32)}
        for name, shape in SHAPES.items()
    }


def half_square(params):
    return sum(0.5 * jnp.square(layer["local_kernel"]).sum() for layer in params.values())


def everything(params):
    shared = share_weights(params)
    mask = (np.arange(16) % 3 > 0)[:, None, None, None]
    masked = {"masked_local_kernel": params["tokens"]["local_kernel"]}
    return {
        "shared": shared,
        "again": share_weights(shared),
        "pooled": expand_pools(pool_kernels(params)),
        "packed": share_weights(pack_kernels(params)),
        "snr": weight_snr(params),
        "snr_of_shared": weight_snr(shared),
        "gradient": jax.grad(lambda p: half_square(share_weights(p)))(params),
        "masked": share_weights({"layer": masked}, mask={"layer": mask}),
    }


@pytest.mark.devices(8)
def test_all_is_as_on_one_device(params):
    compute = jax.jit(everything)
    with jax.set_mesh(make_mesh()):
        expected = compute(params)
    with jax.set_mesh(make_mesh(2, 2, 2)):
        actual = jax.device_get(compute(params))
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, actual, expected)
    for name in ("again", "pooled"):
        jax.tree.map(np.testing.assert_array_equal, actual[name], actual["shared"])
    assert all(np.isinf(ratio) for ratio in actual["snr_of_shared"].values())


@pytest.mark.devices(8)
def test_a_layer_sends_one_sum_of_its_pools(params):
    """The pools' mean as two pieces, of layers that are split by position."""
    with jax.set_mesh(make_mesh(1, 4, 2)):
        lowered = jax.jit(share_weights).lower(params)
    text = lowered.as_text()
    sent = [line for line in text.splitlines() if "(tensor<2x" in line and "all_reduce" not in line]
    assert text.count("stablehlo.all_reduce") == 3
    assert {"tensor<2x3x3x3x3x2x4xf32>", "tensor<2x7x3x7x3x1x4xf32>", "tensor<2x1x1x3x4xf32>"} <= {
        word.strip("():,") for line in sent for word in line.split()
    }
    assert not [kind for kind in ("all_gather", "all_to_all", "collective_permute") if kind in text]


@pytest.mark.devices(8)
def test_replicas_share_by_themselves(params):
    """The forms of programs written for pmap: to the last bit what one device does."""
    stacked = jax.tree.map(lambda a: np.stack([a + i for i in range(8)]), params)
    share = jax.jit(share_weights)
    expected = [share(jax.tree.map(lambda a, i=i: a[i], stacked)) for i in range(8)]
    for form in (jax.pmap(share_weights), jax.jit(jax.pmap(share_weights)), jax.pmap(share)):
        mapped = jax.device_get(form(stacked))
        for i, one in enumerate(expected):
            jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a[i], b), mapped, one)


@given(st.floats(2**-60, 2**60, width=32), st.integers(2, 60_000))
def test_sums_of_equal_pieces_are_exact(value, count):
    """In whatever order: each is so many times the piece, which the dtype holds."""
    cut = [np.float64(piece) for piece in pieces(jnp.float32(value), most=count)]
    assert sum(cut) == value
    for piece in cut:
        assert np.float32(piece * count) == piece * count
