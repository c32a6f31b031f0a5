"""AdamW on a mesh in float64, where rounding is not taken for a difference.

Its first steps divide gradients by their own size, so that in float32 a last bit becomes a step.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxws import LocalConv
from jaxws.core.pooled import expand_pools, pool_kernels
from jaxws.data.batch import Batch
from jaxws.parallel.mesh import make_mesh
from jaxws.parallel.placement import MeshPlacing, placed, split_batch, state_shardings
from jaxws.training.state import create_train_state
from jaxws.training.step import train_step
from jaxws.training.weight_sharing import Sharing

BATCH, STEPS = 16, 4
MESHES = ((8, 1, 1), (1, 8, 1), (1, 4, 2), (2, 2, 2), (4, 2, 1))


class Wide(nn.Module):
    """All of it in float64, the head too; on meshes, layers are split in all ways there are."""

    @nn.compact
    def __call__(self, x, train=False, mask=None):
        layer = partial(LocalConv, use_bias=False, dtype=x.dtype, param_dtype=x.dtype)
        mask = None if mask is None else mask[:, None, None, None]
        for name, features, strides in (("a", 8, 1), ("b", 8, 2), ("c", 16, 2)):
            x = layer(features, (3, 3), strides=strides, padding=1, name=name)(x)
            norm = nn.BatchNorm(use_running_average=not train, dtype=x.dtype, param_dtype=x.dtype)
            x = nn.relu(norm(x, mask=mask))
        return nn.Dense(5, dtype=x.dtype, param_dtype=x.dtype)(x.mean((1, 2)))


@pytest.fixture
def x64():
    jax.config.update("jax_enable_x64", True)
    with jax.numpy_dtype_promotion("standard"):  # counts of images are float32
        yield
    jax.config.update("jax_enable_x64", False)


def batches():
    rng = np.random.default_rng(0)
    for step in range(STEPS):
        real = np.arange(BATCH) < BATCH - 3 * (step == 2)  # the third one is ragged
        yield Batch(rng.normal(size=(BATCH, 12, 12, 3)), rng.integers(0, 5, BATCH), real)


def trained(state, every, optimizer, mesh):
    sharing = Sharing(every, "grid", 100)
    compute = partial(train_step, model=Wide(), optimizer=optimizer, sharing=sharing)

    def step(state, batch):
        state, sums, _ = compute(state, split_batch(batch))
        return placed(state), sums["loss"]

    with jax.set_mesh(mesh):
        if every == 1:
            state = state.replace(params=jax.jit(pool_kernels)(state.params))
        state = jax.device_put(state, state_shardings(state, mesh))
        step, losses = jax.jit(step), []
        for batch in batches():
            state, loss = step(state, MeshPlacing(mesh).batch(batch, BATCH))
            losses.append(float(loss))
        return jax.device_get(jax.jit(expand_pools)(state)), losses


@pytest.mark.slow
@pytest.mark.devices(8)
@pytest.mark.parametrize("every", [0, 1, 2])
def test_adamw_is_that_of_one_device(every, x64):
    optimizer = optax.adamw(1e-2)
    create = partial(create_train_state, model=Wide(), optimizer=optimizer, image_shape=(12, 12, 3))
    state = jax.device_get(jax.jit(create)(jax.random.key(0)))
    assert state.params["Dense_0"]["kernel"].dtype == jnp.float64
    expected, losses = trained(state, every, optimizer, make_mesh())
    for mesh in MESHES:
        actual, others = trained(state, every, optimizer, make_mesh(*mesh))
        np.testing.assert_allclose(others, losses, rtol=1e-12, err_msg=str(mesh))
        compare = partial(np.testing.assert_allclose, rtol=0, atol=1e-9, err_msg=str(mesh))
        jax.tree.map(compare, actual, expected)
