"""Losses of the weights beside that of the images: once per step, in any part or layout of it."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxws import LocalConv
from jaxws.core.pooled import pool_kernels
from jaxws.core.similarity import similarity_loss
from jaxws.core.topography import smoothness_loss
from jaxws.data.batch import Batch
from jaxws.training.gradients import batch_gradients
from jaxws.training.loss_scale import LossScale
from jaxws.training.optimizers import OptimizerSettings
from jaxws.training.state import create_train_state
from jaxws.training.step import train_step
from jaxws.training.topography import Topography, add_topography, check_topography
from jaxws.training.weight_sharing import Sharing
from tests.support.tiny_network import Tiny

MODEL = Tiny(3, LocalConv, "float32")
BOTH = Topography(smoothness=0.5, similarity=0.25, pools="global")
FROZEN = ("conv1/*",)


@pytest.fixture(scope="module")
def state():
    settings = OptimizerSettings("sgd", 0.1, 0.0, 0.0, 10, (), 4.0)
    create = partial(create_train_state, model=MODEL, optimizer=settings.make())
    return jax.jit(partial(create, image_shape=(7, 6, 3)))(jax.random.key(0))


def test_gradients_are_those_of_the_weighted_sum(state):
    params = state.params

    @jax.jit
    def both(params):
        def loss(params):
            smooth = smoothness_loss(params)
            similar = similarity_loss(params, pools="global")
            return 0.5 * smooth + 0.25 * similar

        ones = jax.tree.map(jnp.ones_like, params)
        return jax.grad(loss)(params), {
            "plain": add_topography(ones, params, BOTH),
            "pooled": add_topography(ones, pool_kernels(params), BOTH),
        }

    expected, found = both(params)
    expected = jax.tree.map(lambda g: g + 1, expected)
    close = partial(chex.assert_trees_all_close, rtol=1e-5, atol=1e-6)
    gradients, losses = found["plain"]
    close(gradients, expected)
    np.testing.assert_allclose(losses["smoothness_loss"], smoothness_loss(params), rtol=1e-6)
    # One filter for every pool of the grid, and a gradient at every position.
    shape = params["conv1"]["local_kernel"].shape
    assert found["pooled"][0]["conv1"]["local_kernel"].shape == shape


def test_a_step_adds_them_once_whatever_the_parts_and_the_loss_scale(state):
    """SGD at a rate of 0.1 shows the gradient: scaled, in two parts, none where frozen."""
    batch = Batch(
        jnp.asarray(np.random.default_rng(0).normal(size=(4, 7, 6, 3)), jnp.float32),
        jnp.array([0, 1, 2, 0]),
        mask=None,
    )
    optimizer = OptimizerSettings("sgd", 0.1, 0.0, 0.0, 10, (), 4.0).make()
    scaled = state.replace(loss_scale=LossScale(jnp.float32(1024), jnp.int32(0)))

    @jax.jit
    def run(scaled):
        step = partial(
            train_step,
            model=MODEL,
            optimizer=optimizer,
            sharing=Sharing(0, "global", 10, frozen=FROZEN),
            accumulate=2,
            topography=BOTH,
        )
        arguments = (scaled.params, scaled.batch_stats, batch)
        images = batch_gradients(*arguments, model=MODEL, accumulate=2, frozen=FROZEN)[0]
        return step(scaled, batch), add_topography(images, scaled.params, BOTH, FROZEN)

    (after, _, info), (gradients, losses) = run(scaled)
    expected = jax.tree.map(lambda w, g: w - 0.1 * g, scaled.params, gradients)
    chex.assert_trees_all_close(after.params, expected, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_equal(info.topography, losses)
    assert not np.any(gradients["conv1"]["local_kernel"])
    assert np.all(gradients["conv2"]["local_kernel"])
    assert losses.keys() == {"smoothness_loss", "similarity_loss"}
    assert not info.skipped


def test_a_step_without_them_is_the_step_that_it_was(state):
    """Nothing is computed for losses of no weight."""
    gradients, losses = add_topography(state.params, None, Topography())
    assert gradients is state.params and losses == {}


@pytest.mark.parametrize(
    ("topography", "shape", "frozen", "match"),
    [
        (Topography(smoothness=1.0), (5, 3, 2, 2), FROZEN, "names all locally connected"),
        (Topography(smoothness=1.0, arrangement="sheet"), (5, 3, 2, 2), (), "a sheet has two"),
        (Topography(similarity=1.0), (3, 3, 2, 2), (), "no layer has pools"),
        (Topography(similarity=1.0), None, (), "found no leaf named 'local_kernel'"),
        (Topography(similarity=1.0), "masked", (), "layers have masks"),
    ],
)
def test_networks_without_anything_to_compare_are_told(topography, shape, frozen, match):
    leaf = {None: "kernel", "masked": "masked_local_kernel"}.get(shape, "local_kernel")
    shape = shape if isinstance(shape, tuple) else (2, 2)
    params = {"conv1": {leaf: jax.ShapeDtypeStruct(shape, "float32")}}
    with pytest.raises(ValueError, match=match):
        check_topography(topography, params, [f"conv1/{leaf}"], frozen)
