import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxws import share_weights
from jaxws.core.packed import PackedKernel, pack_kernel, pack_kernels, unpack_kernels
from jaxws.data.batch import Batch
from jaxws.training.state import create_train_state
from jaxws.training.step import train_step
from jaxws.training.weight_sharing import Sharing
from tests.support.small_run import Small


@pytest.mark.usefixtures("strict_promotion")
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_packed_weights_are_where_they_should_be(ndim):
    rng = np.random.default_rng(ndim)
    positions, offsets, c, f = (4, 3, 2)[:ndim], (2, 3, 1)[:ndim], 2, 5
    kernel = rng.standard_normal((*positions, *offsets, c, f))
    packed = np.asarray(pack_kernel(jnp.asarray(kernel, jnp.float32)))
    assert packed.shape == (*positions, f, np.prod(offsets) * c)
    for index in np.ndindex(kernel.shape):
        position, weight, feature = index[:ndim], index[ndim:-1], index[-1]
        flat = np.ravel_multi_index(weight, (*offsets, c))
        assert packed[(*position, feature, flat)] == np.float32(kernel[index])


def test_trees_come_back_as_they_were():
    kernel = jax.random.normal(jax.random.key(0), (4, 4, 3, 3, 2, 5))
    tree = {"conv1": {"local_kernel": kernel, "bias": jnp.ones(3)}, "steps": 7}
    packed = pack_kernels(tree)
    node = packed["conv1"]["local_kernel"]
    assert isinstance(node, PackedKernel)
    assert (node.shape, node.ndim, node.dtype) == (kernel.shape, 6, kernel.dtype)
    assert packed["conv1"]["bias"] is tree["conv1"]["bias"]
    for again in (unpack_kernels(packed), unpack_kernels(pack_kernels(packed))):
        assert jax.tree.structure(again) == jax.tree.structure(tree)
        jax.tree.map(np.testing.assert_array_equal, again, tree)
    assert unpack_kernels(tree) == tree


@pytest.mark.usefixtures("strict_promotion")
@pytest.mark.parametrize("pools", ["grid", "global"])
@pytest.mark.parametrize("shape", [(5, 4, 3, 2, 2, 3), (7, 3, 2, 4), (3, 4, 2, 2, 1, 2, 2, 3)])
def test_sharing_commutes_with_packing(shape, pools):
    tree = {"local_kernel": jax.random.normal(jax.random.key(0), shape)}
    shared = share_weights(pack_kernels(tree), pools=pools)
    assert isinstance(shared["local_kernel"], PackedKernel)
    jax.tree.map(
        np.testing.assert_array_equal, unpack_kernels(shared), share_weights(tree, pools=pools)
    )


def test_training_steps_equal_those_of_unpacked_weights():
    model, optimizer = Small(classes=4, dtype="float32"), optax.adamw(1e-2)
    state = jax.jit(
        lambda key: create_train_state(key, model, optimizer, (8, 8, 3)),
    )(jax.random.key(0))
    image = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
    batch = Batch(image, jnp.arange(4), mask=None)
    sharing = Sharing(every=2, pools="grid", steps_per_epoch=10)

    @jax.jit
    def step(state):
        return train_step(state, batch, model=model, optimizer=optimizer, sharing=sharing)

    packed = pack_kernels(state)
    for _ in range(2):  # one that shares and one that does not
        (state, metrics, snr), (packed, *others) = step(state), step(packed)
        for actual, expected in zip(
            jax.tree.leaves((unpack_kernels(packed), others)),
            jax.tree.leaves((state, [metrics, snr])),
            strict=True,
        ):
            np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-5)
    assert isinstance(packed.params["conv1"]["local_kernel"], PackedKernel)
