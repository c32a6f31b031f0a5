"""Layers on a mesh compute what they compute on one device: to the last bit, on whole numbers."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxws import local_conv
from jaxws.core.pooled import PooledKernel
from jaxws.core.window import make_window
from jaxws.parallel.mesh import make_mesh

BATCH = 8
MESHES = ((1, 8, 1), (1, 4, 2), (2, 2, 2))

# Image size, kernel size, stride, padding, groups, channels, features. On meshes, they are split by
# both axes of positions, by one and by features, by features alone, by one axis twice, or not.
LAYERS = {
    "halos": ((8, 8), (3, 3), 1, 1, 1, 2, 4),
    "stride": ((9, 8), (3, 2), 2, 1, 1, 3, 8),
    "seven": ((7, 7), (3, 3), 1, 1, 1, 2, 8),
    "wide": ((16, 16), (7, 7), 2, 3, 1, 1, 2),
    "point": ((8, 6), (1, 1), 2, 0, 1, 4, 6),
    "tokens": ((16,), (1,), 1, 0, 1, 4, 8),
    "odd": ((5,), (3,), 1, 1, 1, 2, 3),
    "groups": ((14, 14), (3, 3), 1, 1, 2, 4, 8),
    "volume": ((4, 8, 3), (3, 3, 3), 1, 1, 1, 2, 3),
}


def whole_numbers(rng, *shape):
    return rng.integers(-4, 5, shape).astype(np.float32)


def make_arrays():
    rng = np.random.default_rng(0)
    arrays = {}
    for name, (size, kernel, strides, padding, groups, channels, features) in LAYERS.items():
        positions = make_window(size, kernel, strides, padding).output_size
        arrays[name] = (
            whole_numbers(rng, BATCH, *size, channels),
            whole_numbers(rng, *positions, *kernel, channels // groups, features),
            whole_numbers(rng, BATCH, *positions, features),
        )
    return arrays


def pooled(kernel):
    """A kernel's first filters, as those of its pools."""
    filters = kernel[: kernel.shape[2], : kernel.shape[3]]
    return PooledKernel(filters, kernel.shape[:2], jnp.zeros_like(kernel))


def values_and_gradients(arrays, implementation):
    results = {}
    for name, (x, kernel, dy) in arrays.items():
        _, _, strides, padding, groups, *_ = LAYERS[name]

        def layer(x, kernel, strides=strides, padding=padding, groups=groups):
            return local_conv(
                x,
                kernel,
                strides=strides,
                padding=padding,
                feature_group_count=groups,
                implementation=implementation,
            )

        y, pull_back = jax.vjp(layer, x, kernel)
        results[name] = (y, *pull_back(dy))
        if kernel.ndim == 6:
            y, pull_back = jax.vjp(layer, x, pooled(kernel))
            dx, dkernel = pull_back(dy)
            results[f"{name}, pooled"] = (y, dx, dkernel.probe)
    return results


compute = jax.jit(values_and_gradients, static_argnums=1)


@cache
def on_one_device():
    """What all meshes are compared with, on the host."""
    with jax.set_mesh(make_mesh()):
        return jax.device_get(compute(make_arrays(), "slices"))


@pytest.mark.devices(8)
@pytest.mark.parametrize("shape", MESHES)
def test_values_and_gradients_are_those_of_one_device(shape):
    with jax.set_mesh(make_mesh(*shape)):
        actual = compute(make_arrays(), None)
    for name, results in on_one_device().items():
        for a, b in zip(actual[name], results, strict=True):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=f"{name} {shape}")
