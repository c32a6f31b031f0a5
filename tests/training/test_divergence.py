"""Losses that are not finite: stop, skip, or roll back with a lower rate."""

import jax
import jax.numpy as jnp
import pytest

from jaxws.checkpointing.directory import steps_in
from jaxws.config import base_config
from jaxws.config.checks import check_config
from jaxws.training import loop, resume
from jaxws.training.divergence import Diverged, DivergencePolicy, all_finite
from tests.support.small_run import (
    assert_same_bits,
    checkpoint_of,
    prepare_small,
    small_config,
    timeless_lines,
)


@pytest.fixture
def config(folder, tmp_path):
    config = small_config(folder, tmp_path / "tfds")
    config.epochs = 2
    return config


def diverge_at(patch, step, below=1.0):
    """The loss of a step is NaN unless the rate has been lowered; returns the factors."""
    factors, true_step, true_settings = [], loop.compiled_step, resume.optimizer_settings

    def optimizer_settings(config, steps_per_epoch, rate_factor=1.0):
        factors.append(rate_factor)
        return true_settings(config, steps_per_epoch, rate_factor)

    def compiled_step(state, inputs, *, settings):
        at = int(state.step) == step and factors[-1] >= below
        state, metrics, info = true_step(state, inputs, settings=settings)
        if at:
            metrics = {**metrics, "loss": jnp.nan}
        return state, metrics, info._replace(diverged=at)

    patch.setattr(resume, "optimizer_settings", optimizer_settings)
    patch.setattr(loop, "compiled_step", compiled_step)
    return factors


def test_a_rollback_lowers_the_rate_once_and_for_all(config, tmp_path, monkeypatch):
    config.divergence.action = "rollback"
    with monkeypatch.context() as patch:
        factors = diverge_at(patch, 5)
        run = prepare_small(config, tmp_path / "run")
        assert loop.train(run)["step"] == 8
        assert factors[-1] == 0.5
        # Stopped after the rollback and resumed, the same comes out.
        config.max_steps = 6
        loop.train(prepare_small(config, tmp_path / "parts"))
        config.max_steps, factors[:] = None, []
        parts = prepare_small(config, tmp_path / "parts")
        loop.train(parts)
        assert factors[-1] == 0.5
    assert_same_bits(checkpoint_of(parts.workdir)[1], checkpoint_of(run.workdir)[1])
    assert timeless_lines(parts.workdir) == timeless_lines(run.workdir)
    (event,) = [r for r in run.workdir.records() if r["kind"] == "event"]
    assert (event["step"], event["event"]) == (4, "rollback")
    assert event["message"] == (
        "the loss is nan at step 6: back to the checkpoint of step 4, with the learning rate times"
        " 0.5 from there (rollback 1 of at most 3)"
    )
    steps = [r["step"] for r in run.workdir.records() if r["kind"] == "train"]
    assert steps == list(range(1, 9))


def test_rollbacks_come_to_an_end(config, tmp_path, monkeypatch):
    config.divergence.action, config.divergence.max_rollbacks = "rollback", 1
    diverge_at(monkeypatch, 1, below=0.0)
    run = prepare_small(config, tmp_path / "run")
    with pytest.raises(
        FloatingPointError,
        match=r"loss is nan at step 2: the run has diverged after 1 rollbacks. No checkpoint",
    ):
        loop.train(run)
    assert steps_in(run.workdir.checkpoints) == []


def test_a_run_that_stopped_goes_on_with_rollbacks(config, tmp_path, monkeypatch):
    """The action is a field that may be changed; the way out that the message names works."""
    diverge_at(monkeypatch, 5)
    with pytest.raises(
        FloatingPointError, match=r"step 6.*last good checkpoint is of step 4.*action=rollback"
    ):
        loop.train(prepare_small(config, tmp_path / "run"))
    config.divergence.action = "rollback"
    run = prepare_small(config, tmp_path / "run")
    assert loop.train(run)["step"] == 8
    assert all(record.get("event") != "diverged" for record in run.workdir.records())


def test_skipped_steps_are_counted_left_out_and_not_endless(config, tmp_path, monkeypatch):
    true_step, skips = loop.compiled_step, [1, 2]

    def compiled_step(state, inputs, *, settings):
        skipped = int(state.step) in skips
        state, metrics, info = true_step(state, inputs, settings=settings)
        loss = jnp.nan if skipped else metrics["loss"]
        return state, {**metrics, "loss": loss}, info._replace(skipped=skipped)

    monkeypatch.setattr(loop, "compiled_step", compiled_step)
    config.divergence.max_skipped, config.max_steps = 3, 4
    run = prepare_small(config, tmp_path / "run")
    record = loop.train(run)
    assert record["skipped"] == 2
    losses = [r["train_loss"] for r in run.workdir.records() if r["kind"] == "train"]
    assert losses[1:3] == [None, None]
    assert record["train_loss"] == pytest.approx((6 * losses[0] + 2 * losses[3]) / 8)
    skips += [5, 6, 7]
    config.max_steps = None
    with pytest.raises(FloatingPointError, match=r"3 steps in a row were skipped .* at step 8"):
        loop.train(prepare_small(config, tmp_path / "run"))


def test_finite_means_every_number():
    state = {"w": jnp.ones((2, 2)), "m": jnp.zeros(3, jnp.bfloat16), "step": jnp.asarray(2**30)}
    assert all_finite(state)
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        for name in ("w", "m"):
            broken = state | {name: state[name].at[(0,) * state[name].ndim].set(bad)}
            assert not all_finite(jax.tree.map(jnp.asarray, broken))


@pytest.mark.parametrize("factor", [0.0, 1.5])
def test_a_factor_that_is_none(factor):
    config = base_config()
    config.divergence.rate_factor = factor
    with pytest.raises(ValueError, match=r"divergence\.rate_factor"):
        check_config(config)


def test_the_default_is_to_stop():
    policy = DivergencePolicy(base_config().divergence)
    with pytest.raises(FloatingPointError, match="No checkpoint had been written"):
        policy.handle(Diverged("the loss is inf", step=3), [], None)
