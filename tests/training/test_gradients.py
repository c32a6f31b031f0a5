"""Gradients in parts against those of the whole batch."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxws import LocalConv
from jaxws.data import Batch
from jaxws.training.gradients import batch_gradients

ROWS, SHAPE, CLASSES = 12, (5, 4, 2), 7


class Net(nn.Module):
    """Without BatchNorm, or with it."""

    norm: bool = False

    @nn.compact
    def __call__(self, x, train=False, mask=None):
        x = LocalConv(3, (3, 3), param_dtype=x.dtype, name="conv1")(x)
        if self.norm:
            mask = None if mask is None else mask[:, None, None, None]
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x, mask=mask)
        return nn.Dense(CLASSES, param_dtype=x.dtype)(nn.relu(x).mean((1, 2)))


def make_batch(dtype, mask=None):
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.normal(size=(ROWS, *SHAPE)), dtype)
    label = jnp.asarray(rng.integers(0, CLASSES, ROWS), jnp.int32)
    return Batch(image, label, None if mask is None else jnp.asarray(mask))


def variables_of(model, dtype):
    variables = jax.jit(model.init)(jax.random.key(0), jnp.ones((1, *SHAPE), dtype))
    return variables["params"], variables.get("batch_stats", {})


# Compiled once for all masks.
jitted = jax.jit(batch_gradients, static_argnames=("model", "accumulate"))


def gradients_of(model, params, batch_stats, batch, **arguments):
    return jitted(params, batch_stats, batch, model=model, **arguments)


@pytest.mark.parametrize("real", [None, 11, 7, 2], ids=lambda n: f"real {n}")
def test_parts_add_up_to_the_batch(real):
    """In float64; of 2 real images, two of four parts see none."""
    with jax.enable_x64(True):
        mask = None if real is None else np.arange(ROWS) < real
        params, _ = variables_of(Net(), jnp.float64)
        batch = make_batch(jnp.float64, mask)
        whole, metrics, _ = gradients_of(Net(), params, {}, batch)
        for parts in (2, 4):
            actual, sums, _ = gradients_of(Net(), params, {}, batch, accumulate=parts)
            close = partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-13)
            jax.tree.map(close, actual, whole)
            jax.tree.map(close, sums, metrics)


def test_batch_norm_takes_the_parts_one_after_the_other():
    """Statistics as of so many batches of the rows i, i + parts, ..., those without images left."""
    model, parts = Net(norm=True), 4
    params, batch_stats = variables_of(model, jnp.float32)
    mask = np.arange(ROWS) < 3  # rows 0, 1, 2: the last part is empty
    batch = make_batch(jnp.float32, mask)
    gradients, metrics, actual = gradients_of(model, params, batch_stats, batch, accumulate=parts)
    assert metrics["images"] == 3
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    expected, total = batch_stats, jax.tree.map(np.zeros_like, params)
    for i in range(3):
        part = jax.tree.map(lambda a, i=i: a[i::parts], batch)
        part_gradients, _, expected = gradients_of(model, params, expected, part)
        total = jax.tree.map(lambda a, b: a + b / 3, total, part_gradients)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, actual, expected)
    jax.tree.map(close, gradients, total)


def test_views_of_an_image_fall_to_different_parts():
    """Views follow one another: with as many parts as views, each part sees every image once."""
    views = 3
    seen = []

    class Spy(nn.Module):
        @nn.compact
        def __call__(self, x, train=False, mask=None):
            jax.debug.callback(lambda x: seen.append(np.asarray(x)[:, 0]), x, ordered=True)
            return nn.Dense(CLASSES)(x)

    image = jnp.repeat(jnp.arange(4.0), views)[:, None]
    batch = Batch(image, jnp.zeros(12, jnp.int32), None)
    params = jax.jit(Spy().init)(jax.random.key(0), image)["params"]
    jax.effects_barrier()
    seen.clear()
    jax.block_until_ready(gradients_of(Spy(), params, {}, batch, accumulate=views))
    jax.effects_barrier()
    assert [list(part) for part in seen[:views]] == [[0, 1, 2, 3]] * views


def test_the_scale_multiplies_gradients_and_nothing_else():
    params, _ = variables_of(Net(), jnp.float32)
    batch = make_batch(jnp.float32)
    plain = gradients_of(Net(), params, {}, batch)
    scaled = gradients_of(Net(), params, {}, batch, scale=2.0**10)
    np.testing.assert_array_equal(scaled[1]["loss"], plain[1]["loss"])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, 2.0**10 * b), scaled[0], plain[0])


@pytest.mark.parametrize("parts", [0, 5, 24])
def test_a_batch_that_cannot_be_cut(parts):
    params, _ = variables_of(Net(), jnp.float32)
    with pytest.raises(ValueError, match=rf"a batch of 12 rows cannot .* from {parts} equal parts"):
        batch_gradients(params, {}, make_batch(jnp.float32), model=Net(), accumulate=parts)
