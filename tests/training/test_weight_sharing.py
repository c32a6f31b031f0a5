"""When weights are shared, and sharing by plasticity in training: sleep and online."""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import FrozenDict

from jaxws import LocalConv, layer_windows, weight_snr
from jaxws.config.checks import check_config
from jaxws.data import Batch
from jaxws.dynamics import Rule, sleep_phase
from jaxws.training.run import prepare
from jaxws.training.sharing_rules.hebbian import Hebbian
from jaxws.training.state import create_train_state
from jaxws.training.state_layout import pool_if_shared
from jaxws.training.step import train_step
from jaxws.training.weight_sharing import (
    Sharing,
    check_shareable,
    make_sharing,
    share,
    shares_after,
)
from tests.support.small_run import (
    Small,
    assert_same_bits,
    prepare_small,
    small_config,
    train_whole_and_stopped,
)

SHAPE = (8, 8, 2)
MODEL = Small(5, "float32")
OPTIMIZER = optax.sgd(0.1)
WINDOWS = FrozenDict(layer_windows(MODEL, SHAPE))
RULE = Rule(3, 20, 0.1, 0.0)


def hebbian(every, seed=0, borders="in", rule=RULE):
    return Sharing(every, "grid", 4, Hebbian(rule, borders, WINDOWS, seed))


@cache
def stepper(sharing):
    return jax.jit(partial(train_step, model=MODEL, optimizer=OPTIMIZER, sharing=sharing))


@pytest.fixture(scope="module")
def state():
    arguments = {"model": MODEL, "optimizer": OPTIMIZER, "image_shape": SHAPE}
    return jax.jit(partial(create_train_state, **arguments))(jax.random.key(0))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(6, *SHAPE)), jnp.float32)
    return Batch(images, jnp.asarray(rng.integers(0, 5, 6), jnp.int32), None)


@pytest.mark.parametrize("borders", ["in", "out"])
def test_a_step_ends_with_a_phase_where_ws_n_says_so(state, batch, borders):
    sharing = hebbian(2, borders=borders)
    shared, plain = stepper(sharing), stepper(Sharing(0, "grid", 4))
    for sleeps in (True, False, True, False):  # an epoch of four steps
        expected, *_ = plain(state, batch)
        if sleeps:
            params = share(expected.params, state.step, sharing)
            before, after = (p["conv1"]["local_kernel"] for p in (expected.params, params))
            assert (before != after).any()
        else:
            params = expected.params
        state, *_ = shared(state, batch)
        for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(params), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_noise_is_a_function_of_seed_and_step(state):
    def kernel(step, seed=0):
        return np.asarray(share(state.params, step, hebbian(1, seed))["conv1"]["local_kernel"])

    np.testing.assert_array_equal(kernel(3), kernel(jnp.asarray(3)))
    assert (kernel(3) != kernel(4)).any()
    assert (kernel(3) != kernel(3, seed=1)).any()


def test_noise_while_learning_keeps_weights_alike(state, batch):
    def after(sharing, state=state):
        step = stepper(sharing)
        for _ in range(40):
            state, *_ = step(state, batch)
        return float(weight_snr(state.params)["conv1"])

    online = hebbian(1, rule=Rule(1, 8, 0.05, 0.0))
    assert after(online) > 3 * after(Sharing(0, "grid", 4))


def test_weights_that_plasticity_shares_are_not_kept_pooled(state, batch):
    assert not hebbian(1).keeps_shared and Sharing(1, "grid", 4).keeps_shared
    equal = jax.tree.map(jnp.ones_like, state)
    assert pool_if_shared(equal, hebbian(1)) is equal


def test_a_skipped_step_does_not_sleep(state, batch):
    step = jax.jit(
        partial(
            train_step, model=MODEL, optimizer=OPTIMIZER, sharing=hebbian(1), skip_nonfinite=True
        )
    )
    bad = batch._replace(image=batch.image.at[0, 0, 0, 0].set(jnp.nan))
    new, _, info = step(state, bad)
    assert bool(info.skipped)
    assert_same_bits(jax.device_get(new.params), jax.device_get(state.params))


@pytest.fixture
def config(folder, tmp_path):
    config = small_config(folder, tmp_path / "tfds")
    config.sharing.sleep.iterations, config.sharing.sleep.patterns = 3, 30
    config.optimizer.learning_rate = 0.03
    config.data.image_size = 12  # the last stage of a ResNet has 3 x 3 positions
    return config


@pytest.mark.parametrize(("mode", "borders"), [("sleep", "out"), ("online", "in")])
def test_a_resumed_run_ends_like_one_never_stopped(config, tmp_path, mode, borders):
    config.sharing.mode, config.sharing.borders = mode, borders
    train_whole_and_stopped(prepare_small, config, tmp_path)


def test_what_is_impossible_is_said_before_a_directory_is_made(config, tmp_path):
    config.sharing.mode, config.sharing.online.rate = "online", 1.5
    with pytest.raises(
        ValueError, match=r"rate=1.5 with 32 patterns: weights of layer 'conv1'.*more patterns.$"
    ):
        prepare(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_modes_that_cannot_be(config, tmp_path):
    config.sharing.mode = "asleep"
    with pytest.raises(ValueError, match="expected one of 'instant', 'sleep', 'online'"):
        check_config(config)
    config.sharing.mode, config.sharing.every = "sleep", 0
    with pytest.raises(ValueError, match=r"config.sharing.every=0, which is never"):
        check_config(config)
    config.sharing.every, config.sharing.pools = 1, "global"
    with pytest.raises(ValueError, match="expected pools='grid'"):
        prepare(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_configuration_is_read(config):
    config.sharing.mode, config.sharing.every, config.seed = "sleep", 5, 7
    config.sharing.sleep.gamma, config.sharing.sleep.rate = 0.25, 0.125
    sharing = make_sharing(config, MODEL, SHAPE, 9)
    assert sharing == Sharing(5, "grid", 9, Hebbian(Rule(3, 30, 0.125, 0.25), "in", WINDOWS, 7))
    config.sharing.mode, config.sharing.borders = "online", "out"
    sharing = make_sharing(config, MODEL, SHAPE, 9)
    assert sharing.rule == Hebbian(Rule(1, 32, None, 0.0), "out", WINDOWS, 7)
    model = nn.Sequential([LocalConv(2, (9, 9), name="conv")])
    with pytest.raises(ValueError, match=r"kernel of size \(9, 9\) and \(8, 8\) positions"):
        make_sharing(config, model, SHAPE, 9)


def test_a_phase_is_the_libraries(state):
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0x51EE9), 2)
    expected = sleep_phase(key, state.params, RULE, windows=WINDOWS)
    assert_same_bits(jax.device_get(share(state.params, 2, hebbian(1))), jax.device_get(expected))


def test_masks_are_told_before_a_run_shares():
    names = ["conv1/masked_local_kernel", "conv2/local_kernel"]
    with pytest.raises(ValueError, match=r"layers have masks \(conv1/masked_local_kernel\)"):
        check_shareable(Sharing(1, "grid", 3), names)
    check_shareable(Sharing(0, "grid", 3), names)


class Masked(nn.Module):
    """Two LC layers, one with a mask."""

    @nn.compact
    def __call__(self, x, train=False, mask=None):
        x = LocalConv(2, (3, 3), mask=jnp.ones((3, 3, 1, 2)), name="conv1")(x)
        return LocalConv(4, (3, 3), name="conv2")(x).mean((1, 2))


def test_a_network_with_masks_trains_and_shows_the_ratios_of_other_layers():
    optimizer = optax.sgd(0.1)
    state = jax.eval_shape(
        partial(create_train_state, model=Masked(), optimizer=optimizer, image_shape=(6, 6, 1)),
        jax.random.key(0),
    )
    batch = Batch(jnp.ones((2, 6, 6, 1)), jnp.zeros(2, jnp.int32), None)
    step = partial(train_step, model=Masked(), optimizer=optimizer, sharing=Sharing(0, "grid", 3))
    assert list(jax.eval_shape(step, state, batch)[2].neg_log_snr) == ["conv2"]


def test_sharing_counts_batches_from_zero_in_every_epoch():
    shared = [step for step in range(3 * 98) if shares_after(step, 100, 98)]
    assert shared == [0, 98, 196]  # ws(100): once an epoch of CIFAR
    shared = [step for step in range(2 * 98) if shares_after(step, 10, 98)]
    assert shared == [*range(0, 98, 10), *range(98, 196, 10)]
    assert all(shares_after(step, 1, 98) for step in range(200))
    assert not any(shares_after(step, 0, 98) for step in range(200))
