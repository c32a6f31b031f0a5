from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxws import share_weights, weight_snr
from jaxws.data import Batch
from jaxws.training.evaluation import eval_step
from jaxws.training.metrics import batch_metrics
from jaxws.training.optimizers import step_decay
from jaxws.training.state import create_train_state
from jaxws.training.step import train_step
from jaxws.training.weight_sharing import Sharing
from tests.support.small_run import Small

MODEL = Small(7, "float32")
OPTIMIZER = optax.adamw(1e-2)
SHAPE = (6, 5, 2)


def make_batch(n=4, seed=0):
    rng = np.random.default_rng(seed)
    image = jnp.asarray(rng.normal(size=(n, *SHAPE)), jnp.float32)
    return Batch(image, jnp.asarray(rng.integers(0, 7, n), jnp.int32), None)


def initial_state(model=MODEL, optimizer=OPTIMIZER):
    create = partial(create_train_state, model=model, optimizer=optimizer, image_shape=SHAPE)
    return jax.jit(create)(jax.random.key(0))


@pytest.fixture(scope="module")
def state():
    return initial_state()


@cache
def compiled_step(sharing):
    return jax.jit(partial(train_step, model=MODEL, optimizer=OPTIMIZER, sharing=sharing))


def step(state, batch, every=0, pools="grid", steps_per_epoch=3):
    return compiled_step(Sharing(every, pools, steps_per_epoch))(state, batch)


def numpy_adamw(param, grad, rate, decay):
    """One step from zero moments, with PyTorch's semantics: decay scaled by the rate."""
    m, v = 0.1 * grad, 0.001 * grad**2
    update = (m / 0.1) / (np.sqrt(v / 0.001) + 1e-8)
    return param * (1 - rate * decay) - rate * update


def test_one_step_equals_numpy_adamw_on_the_mean_loss():
    batch = make_batch()
    schedule = step_decay(1e-2, steps_per_epoch=5)
    optimizer = optax.adamw(schedule, weight_decay=0.3)
    state = initial_state(optimizer=optimizer)

    def loss(params):
        logits, _ = MODEL.apply(
            {"params": params, "batch_stats": state.batch_stats},
            batch.image,
            train=True,
            mutable=["batch_stats"],
        )
        log_probability = jax.nn.log_softmax(logits)
        return -jnp.mean(log_probability[jnp.arange(4), batch.label])

    value, grads = jax.jit(jax.value_and_grad(loss))(state.params)
    sharing = Sharing(0, "grid", 5)
    new, metrics, _ = jax.jit(
        partial(train_step, model=MODEL, optimizer=optimizer, sharing=sharing)
    )(state, batch)
    np.testing.assert_allclose(metrics["loss"] / metrics["images"], value, rtol=1e-5)
    expected = jax.tree.map(
        lambda p, g: numpy_adamw(np.asarray(p), np.asarray(g), 1e-2, 0.3), state.params, grads
    )
    # Where a gradient is rounding noise around zero, so is the sign of Adam's first step.
    jax.tree.map(
        lambda a, b, g: np.testing.assert_allclose(
            np.where(np.abs(g) > 1e-6, a, 0), np.where(np.abs(g) > 1e-6, b, 0), atol=1e-4
        ),
        new.params,
        expected,
        grads,
    )
    assert int(new.step) == 1


@pytest.mark.parametrize("pools", ["grid", "global"])
def test_sharing_follows_the_update_and_leaves_moments_alone(state, pools):
    batch = make_batch()
    plain, _, _ = step(state, batch)
    shared, _, _ = step(state, batch, every=1, pools=pools)
    expected = share_weights(plain.params, pools=pools)
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, shared.params, expected)
    jax.tree.map(close, shared.opt_state, plain.opt_state)
    jax.tree.map(close, shared.batch_stats, plain.batch_stats)


def test_ws_n_shares_after_batches_0_and_n_of_each_epoch(state):
    tied = []
    for seed in range(7):
        state, _, _ = step(state, make_batch(seed=seed), every=2, steps_per_epoch=5)
        tied.append(bool(weight_snr(state.params)["conv1"] == np.inf))
    assert tied == [True, False, True, False, True, True, False]


def test_snr_is_measured_before_sharing(state):
    batch = make_batch()
    plain, _, _ = step(state, batch)
    measured = step(state, batch, every=1)[2].neg_log_snr
    expected = {layer: -np.log(snr) for layer, snr in weight_snr(plain.params).items()}
    assert measured.keys() == expected.keys()
    for layer, value in measured.items():
        np.testing.assert_allclose(value, expected[layer], rtol=1e-4)


def test_masked_rows_change_nothing(state):
    batch = make_batch(4)
    garbage = jnp.full((2, *SHAPE), 1e3)
    padded = Batch(
        jnp.concatenate([batch.image, garbage]),
        jnp.concatenate([batch.label, jnp.zeros(2, jnp.int32)]),
        jnp.arange(6) < 4,
    )
    expected, sums, _ = step(state, batch, every=1)
    actual, padded_sums, _ = step(state, padded, every=1)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4), padded_sums, sums)
    # First moments are a tenth of the gradients; parameters take Adam's sign of rounding noise.
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5),
        (actual.opt_state[0].mu, actual.batch_stats),
        (expected.opt_state[0].mu, expected.batch_stats),
    )


def test_evaluation_counts_masked_rows_for_nothing(state):
    batch = make_batch(5)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    evaluate = jax.jit(partial(eval_step, model=MODEL))
    whole = evaluate(**variables, batch=batch)
    pieces = [
        Batch(batch.image[:3], batch.label[:3], jnp.ones(3, bool)),
        Batch(
            jnp.concatenate([batch.image[3:], batch.image[:1]]),
            jnp.concatenate([batch.label[3:], batch.label[:1]]),
            jnp.array([True, True, False]),
        ),
    ]
    parts = [evaluate(**variables, batch=piece) for piece in pieces]
    total = jax.tree.map(lambda a, b: a + b, *parts)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), total, whole)
    assert total["images"] == 5


def test_metrics_against_sorting():
    rng = np.random.default_rng(0)
    logits, label = rng.normal(size=(200, 12)), rng.integers(0, 12, 200)
    metrics = batch_metrics(jnp.asarray(logits), Batch(None, jnp.asarray(label), None))
    order = np.argsort(-logits, axis=1)
    assert int(metrics["top1"]) == np.sum(order[:, 0] == label)
    assert int(metrics["top5"]) == np.sum(order[:, :5] == label[:, None])
    log_probability = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(
        metrics["loss"], -log_probability[range(200), label].sum(), rtol=1e-5
    )


def test_constant_and_nan_logits_are_no_hits():
    label = jnp.arange(10)
    constant = batch_metrics(jnp.zeros((10, 10)), Batch(None, label, None))
    assert (constant["top1"], constant["top5"]) == (1, 5)  # as argmax and a stable sort have it
    nan = batch_metrics(jnp.full((10, 10), jnp.nan), Batch(None, label, None))
    assert (nan["top1"], nan["top5"]) == (0, 0)
    few = batch_metrics(jnp.eye(3), Batch(None, jnp.array([2, 2, 2]), None))
    assert (few["top1"], few["top5"]) == (1, 3)


def test_donation_reuses_the_state():
    state = initial_state()
    function = partial(train_step, model=MODEL, optimizer=OPTIMIZER, sharing=Sharing(0, "grid", 3))
    jax.jit(function, donate_argnums=0)(state, make_batch())
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
