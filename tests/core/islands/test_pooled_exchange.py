"""Layers with pooled filters on a mesh: where a device has many images, and where it has few."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxws.core.islands.layout import AXES
from jaxws.core.local_conv import local_conv
from jaxws.core.pooled import pool_kernels, probes, with_probes
from jaxws.parallel.mesh import make_mesh

CHANNELS, FEATURES = 3, 8


def _loss_and_gradients(x, params, t):
    def loss(x, given):
        kernel = with_probes(params, given)["local_kernel"]
        return jnp.sum(local_conv(x, kernel, strides=(1, 2), padding=1) * t)

    value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(x, probes(params))
    return value, gradients


# Rows 8 / 4 are fewer than there are pools; columns 3 and rows 7 cannot be divided: features are.
@pytest.mark.devices(8)
@pytest.mark.parametrize(("mesh", "rows"), [((1, 4, 2), 8), ((2, 2, 2), 7)], ids=["1x4x2", "2x2x2"])
@pytest.mark.parametrize("each", [2, 16], ids=["few", "many"])
def test_pooled_layer_on_a_mesh_is_that_of_one_device(mesh, rows, each):
    rng, n = np.random.default_rng(0), 8 * each
    kernel = rng.standard_normal((rows, 3, 3, 3, CHANNELS, FEATURES), np.float32)
    params = pool_kernels({"local_kernel": jnp.asarray(kernel)})
    x = jnp.asarray(rng.standard_normal((n, rows, 6, CHANNELS), np.float32))
    t = jnp.asarray(rng.standard_normal((n, rows, 3, FEATURES), np.float32))
    expected = jax.jit(_loss_and_gradients)(x, params, t)
    mesh = make_mesh(*mesh)
    split = NamedSharding(mesh, P(AXES))
    with jax.set_mesh(mesh):
        step = jax.jit(_loss_and_gradients)
        arguments = jax.device_put(x, split), params, jax.device_put(t, split)
        text = step.lower(*arguments).as_text()
        found = step(*arguments)
    # Images go to the positions for the kernel's gradient, and only few of them for the rest too.
    assert text.count("all_to_all") >= (3 if each == 2 else 1)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * float(jnp.abs(b).max()))
