import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxws import pool_mean, pool_variance, share_weights, weight_snr
from tests.support.drawn import normal


def numpy_snr(kernel):
    """Eq. (6), pool by pool and feature by feature."""
    h, w, k_i, k_j = kernel.shape[:4]
    values = []
    for i in range(min(k_i, h)):
        for j in range(min(k_j, w)):
            pool = kernel[i::k_i, j::k_j]
            pool = pool.reshape(-1, *pool.shape[2:]).astype(np.float64)
            if len(pool) < 2:
                continue
            for f in range(pool.shape[-1]):
                weights = pool[..., f].reshape(len(pool), -1)  # neurons, inputs
                values.append(np.mean(weights.mean(0) ** 2 / weights.var(0)))
    return np.mean(values)


def test_equals_eq_6():
    rng = np.random.default_rng(0)
    params = {
        "conv1": {"local_kernel": rng.normal(1, 1, (8, 7, 3, 3, 2, 4)).astype(np.float32)},
        "layer1_0": {
            "conv1": {"local_kernel": rng.normal(2, 1, (4, 4, 3, 2, 1, 3)).astype(np.float32)}
        },
        "fc": {"kernel": np.ones((3, 3), np.float32)},
    }
    snr = jax.jit(weight_snr)(params)
    assert snr.keys() == {"conv1", "layer1_0/conv1"}
    np.testing.assert_allclose(snr["conv1"], numpy_snr(params["conv1"]["local_kernel"]), rtol=1e-4)
    np.testing.assert_allclose(
        snr["layer1_0/conv1"],
        numpy_snr(params["layer1_0"]["conv1"]["local_kernel"]),
        rtol=1e-4,
    )


@pytest.mark.parametrize("outlier", [0.0, 30.0])
def test_variance_in_one_pass_is_accurate(outlier):
    """Weights that nearly agree, and deviations from a member that is far from all others."""
    noise = np.random.default_rng(0).normal(0, 1e-3, (20, 20, 3, 3, 1, 2))
    kernel = np.float32(1 + noise)
    kernel[:3, :3] += outlier
    exact = np.stack(
        [kernel[i::3, j::3].astype(np.float64).var((0, 1)) for i, j in np.ndindex(3, 3)]
    )
    variance = np.asarray(pool_variance(jnp.asarray(kernel))).reshape(exact.shape)
    np.testing.assert_allclose(variance, exact, rtol=2e-4)


def test_shared_weights_have_infinite_snr():
    kernel = normal((6, 6, 3, 3, 1, 2))
    assert weight_snr(share_weights({"local_kernel": kernel}))[""] == np.inf
    assert weight_snr({"local_kernel": jnp.zeros_like(kernel)})[""] == np.inf


def test_pools_of_one_neuron_do_not_count():
    kernel = normal((4, 1, 3, 1, 1, 2))  # pools of 2, 1, 1 neurons
    np.testing.assert_allclose(
        weight_snr({"local_kernel": kernel})[""], numpy_snr(np.asarray(kernel)), rtol=1e-4
    )
    assert weight_snr({"local_kernel": kernel[:3]})[""] == np.inf


def test_snr_of_a_signal_with_known_noise():
    """Weights ~ N(mean, sigma^2) over many neurons: SNR tends to mean^2 / sigma^2."""
    noise = normal((100, 100, 1, 1, 1, 8))
    snr = weight_snr({"local_kernel": 3 + 0.5 * noise})[""]
    np.testing.assert_allclose(snr, 36, rtol=0.02)


@pytest.mark.devices(8)
@pytest.mark.parametrize("pools", ["grid", "global"])
def test_positions_split_over_devices(pools):
    kernel = np.random.default_rng(0).normal(1, 1, (24, 7, 3, 3, 2, 4)).astype(np.float32)
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    snr = jax.jit(
        jax.shard_map(
            lambda k: weight_snr({"local_kernel": k}, pools=pools, axis_name="rows")[""],
            mesh=mesh,
            in_specs=P("rows"),
            out_specs=P(),
        )
    )(kernel)
    np.testing.assert_allclose(
        snr, weight_snr({"local_kernel": kernel}, pools=pools)[""], rtol=1e-4
    )


@pytest.mark.devices(8)
@pytest.mark.parametrize("spec", [P(), P("d"), P(None, None, None, None, None, "d")])
def test_explicit_mesh_axes(spec):
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Explicit,))
    kernel = np.random.default_rng(0).normal(1, 1, (8, 5, 3, 3, 2, 16)).astype(np.float32)
    placed = jax.device_put(kernel, NamedSharding(mesh, spec))
    for function in (pool_mean, pool_variance, jax.jit(pool_mean)):
        pooled = function(placed)
        np.testing.assert_allclose(pooled, function(kernel), rtol=1e-4, atol=1e-6)
        assert pooled.sharding.spec[-1] == (spec[-1] if len(spec) == 6 else None)
    for function in (weight_snr, jax.jit(weight_snr)):
        snr = function({"local_kernel": placed})[""]
        np.testing.assert_allclose(snr, function({"local_kernel": kernel})[""], rtol=1e-4)


@pytest.mark.devices(8)
def test_under_vmap_pmap_and_grad():
    kernels = normal((8, 6, 5, 3, 3, 2, 4)) + 1
    expected = [weight_snr({"a": {"local_kernel": kernel}})["a"] for kernel in kernels]
    for mapped in (jax.vmap, jax.pmap):
        snr = mapped(weight_snr)({"a": {"local_kernel": kernels}})["a"]
        np.testing.assert_allclose(snr, expected, rtol=1e-4)
    # The ratio does not change with scale, so its gradient is orthogonal to the weights (Euler).
    grad = jax.grad(lambda k: weight_snr({"local_kernel": k})[""])(kernels[0])
    scale = float(jnp.abs(grad * kernels[0]).sum())
    assert scale > 0
    assert abs(float((grad * kernels[0]).sum())) < 1e-4 * scale
