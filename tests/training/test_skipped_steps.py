"""Steps whose loss or gradients are not finite: what they change, and what they tell."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxws.config import base_config
from jaxws.data import Batch
from jaxws.training.loss_scale import LossScale
from jaxws.training.optimizers import make_optimizer
from jaxws.training.state import create_train_state
from jaxws.training.step import train_step
from jaxws.training.weight_sharing import Sharing
from tests.support.small_run import Small

SHAPE, CLASSES = (6, 5, 2), 7
OPTIMIZER = make_optimizer(base_config(), steps_per_epoch=1)  # one batch an epoch
SHARING = Sharing(every=1, pools="grid", steps_per_epoch=1)


def make_batch(poison=0.0, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(4, *SHAPE)) + poison
    return Batch(jnp.asarray(image, jnp.float32), jnp.asarray(rng.integers(0, CLASSES, 4)), None)


@cache
def compiled(dtype, skip=False, accumulate=1):
    """The initial state and the step."""
    model = Small(CLASSES, dtype)
    create = partial(
        create_train_state, model=model, optimizer=OPTIMIZER, image_shape=SHAPE, dtype=dtype
    )
    step = partial(
        train_step,
        model=model,
        optimizer=OPTIMIZER,
        sharing=SHARING,
        skip_nonfinite=skip,
        accumulate=accumulate,
    )
    return jax.jit(create)(jax.random.key(0)), jax.jit(step)


def assert_same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
    ("dtype", "poison", "accumulate"),
    [
        ("float32", np.nan, 1),
        ("bfloat16", np.inf, 1),
        ("float16", np.nan, 1),
        ("float16", 1e6, 1),
        ("float16", np.nan, 2),
    ],
)
def test_a_skipped_step_changes_nothing_but_its_number(dtype, poison, accumulate):
    """1e6 is finite and beyond float16. The weights are not shared, as they never were."""
    state, step = compiled(dtype, skip=dtype != "float16", accumulate=accumulate)
    after, _, info = step(state, make_batch(poison))
    assert info.skipped
    assert info.diverged == (dtype != "float16")
    assert int(after.step) == 1
    for field in ("params", "batch_stats", "opt_state"):
        assert_same_bits(getattr(after, field), getattr(state, field))
    if dtype == "float16":
        assert float(after.loss_scale.scale) == float(state.loss_scale.scale) / 2
    # The next good step is the first update: the schedule and the moments count from it.
    after, _, info = step(after, make_batch())
    expected, _, _ = step(state, make_batch())
    assert not info.skipped
    assert not info.diverged
    assert int(after.step) == 2
    tolerance = {} if dtype != "float16" else {"rtol": 1e-2, "atol": 1e-4}
    for field in ("params", "batch_stats", "opt_state"):
        jax.tree.map(
            partial(np.testing.assert_allclose, **{"rtol": 0, "atol": 0} | tolerance),
            getattr(after, field),
            getattr(expected, field),
        )


def test_gradients_alone_overflow():
    """With a scale that is too large the loss is fine and the gradients are not."""
    state, step = compiled("float16")
    huge = LossScale(jnp.asarray(2.0**40, jnp.float32), jnp.asarray(5, jnp.int32))
    state = state.replace(loss_scale=huge)
    scales, skipped = [], []
    for seed in range(45):
        before = state
        state, metrics, info = step(state, make_batch(seed=seed))
        assert np.isfinite(metrics["loss"])
        assert not info.diverged
        scales.append(float(info.loss_scale))
        skipped.append(bool(info.skipped))
        if info.skipped:
            assert_same_bits(before.params, state.params)
    first = skipped.index(False)
    assert first > 5
    assert not any(skipped[first:])
    assert scales == [2.0 ** (40 - min(i, first)) for i in range(45)]
    assert int(state.loss_scale.steps) == 45 - first


def test_what_no_scale_can_help_has_diverged():
    state, step = compiled("float16")
    state = state.replace(loss_scale=state.loss_scale._replace(scale=jnp.asarray(2.0)))
    told = []
    for _ in range(3):
        state, _, info = step(state, make_batch(np.nan))
        told.append((float(info.loss_scale), bool(info.skipped), bool(info.diverged)))
    assert told == [(2, True, False), (1, True, True), (1, True, True)]


def test_without_skipping_the_weights_are_spoiled():
    state, step = compiled("float32")
    after, _, info = step(state, make_batch(np.nan))
    assert info.diverged
    assert not info.skipped
    assert np.isnan(after.params["conv1"]["local_kernel"]).all()


def test_what_a_step_tells():
    state, step = compiled("float32")
    batch = make_batch()
    _, _, info = step(state, batch)

    def loss(params):
        logits, _ = Small(CLASSES, "float32").apply(
            {"params": params, "batch_stats": state.batch_stats},
            batch.image,
            train=True,
            mutable=["batch_stats"],
        )
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(4), batch.label])

    leaves = jax.tree.leaves(jax.jit(jax.grad(loss))(state.params))
    norm = np.sqrt(sum(np.sum(np.square(np.asarray(leaf, np.float64))) for leaf in leaves))
    np.testing.assert_allclose(info.grad_norm, norm, rtol=1e-4)
    assert float(info.learning_rate) == pytest.approx(1e-3)
    assert float(info.loss_scale) == 1
    assert info.neg_log_snr.keys() == {"conv1"}
    scaled_state, scaled_step = compiled("float16")
    _, _, scaled = scaled_step(scaled_state, batch)
    assert float(scaled.loss_scale) == 2.0**16
    np.testing.assert_allclose(scaled.grad_norm, norm, rtol=1e-2)
