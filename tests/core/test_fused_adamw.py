"""One pass of AdamW over a layer, against the formulas in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxws.core import fused_adamw
from jaxws.core.fused_adamw import AdamW, is_supported, update_layer
from jaxws.core.implementations import native
from jaxws.core.pooled import PooledKernel, pool_kernels
from jaxws.core.pools import make_grid

ADAMW = AdamW(b1=0.8, b2=0.95, eps=1e-3, weight_decay=0.1)
RATE, COUNT = 0.2, 3
SHAPES = [
    (7, 5, 3, 3, 4, 29),  # 1044 weights of a position: more than a chunk, no whole registers
    (2, 6, 3, 3, 2, 3),  # fewer rows than pools
    (11, 4, 3, 2),
    (3, 4, 5, 2, 1, 3, 2, 2),
    (4, 4, 1, 1, 8, 8),  # one pool
]
WAYS = ["_plain"] + ["_native"] * native.available()


def in_float64(kernel, grad, mu, nu, periods):
    """(mu, nu, weights, mean, variance), pool by pool."""
    w, g, m, v = (np.asarray(a, np.float64) for a in (kernel, grad, mu, nu))
    m = ADAMW.b1 * m + (1 - ADAMW.b1) * g
    v = ADAMW.b2 * v + (1 - ADAMW.b2) * g**2
    corrected = m / (1 - ADAMW.b1**COUNT), v / (1 - ADAMW.b2**COUNT)
    w = w - RATE * (corrected[0] / (np.sqrt(corrected[1]) + ADAMW.eps) + ADAMW.weight_decay * w)
    mean, variance = (np.empty((*periods, *w.shape[len(periods) :])) for _ in range(2))
    for pool in np.ndindex(periods):
        members = w[tuple(slice(p, None, n) for p, n in zip(pool, periods, strict=True))]
        members = members.reshape(-1, *w.shape[len(periods) :])
        mean[pool], variance[pool] = members.mean(0), members.var(0)
    return m, v, w, mean, variance


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Each way to compute it, whatever the platform would take."""
    function = getattr(fused_adamw, request.param)
    for name in ("_native", "_plain"):
        monkeypatch.setattr(fused_adamw, name, function)
    return request.param


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("pools", "shared"), [("grid", False), ("grid", True), ("global", True)])
def test_a_step_is_that_of_the_formulas(shape, pools, shared, way):
    rng = np.random.default_rng(0)
    kernel, grad, mu, nu = (jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(4))
    nu = jnp.square(nu)
    if shared:
        kernel = pool_kernels({"local_kernel": kernel}, pools=pools)["local_kernel"]
    grid = make_grid(kernel, pools)
    after = jax.jit(
        lambda *arrays: update_layer(
            *arrays, grid=grid, adamw=ADAMW, learning_rate=RATE, count=jnp.asarray(COUNT)
        )
    )(kernel, grad, mu, nu)

    weights = kernel.to_array() if isinstance(kernel, PooledKernel) else kernel
    expected = in_float64(weights, grad, mu, nu, grid.periods)
    assert (after.weights is None) == shared
    for actual, value in zip(after, expected, strict=True):
        if actual is not None:
            np.testing.assert_allclose(actual, value, rtol=2e-5, atol=2e-6)


def test_weights_that_stay_equal_keep_their_bits_and_have_no_variance(way):
    filters = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 3, 3, 2, 5)), jnp.float32)
    kernel = PooledKernel(filters, (11, 10))
    zeros = jnp.zeros(kernel.shape)
    after = update_layer(
        kernel,
        zeros,
        zeros,
        zeros,
        grid=make_grid(kernel, "grid"),
        adamw=AdamW(weight_decay=0),
        learning_rate=jnp.float32(0.1),
        count=jnp.asarray(1),
    )
    np.testing.assert_array_equal(after.mean, filters)
    np.testing.assert_array_equal(after.variance, 0)


def test_what_is_supported():
    kernel = jnp.ones((4, 4, 3, 3, 2, 2))
    here = native.available() and jax.default_backend() == "cpu"
    assert is_supported({"conv1": {"local_kernel": kernel}, "bias": jnp.ones(3)}) == here
    assert not is_supported({"bias": kernel})
    assert not is_supported({"local_kernel": kernel.astype(jnp.bfloat16)})
    assert not is_supported({"local_kernel": kernel[:, :0]})
