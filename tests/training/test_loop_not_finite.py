"""Losses and weights that are not finite: what stops a run, and what is skipped exactly once."""

import json
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from jaxws.checkpointing.directory import steps_in
from jaxws.records.summary import summary_rows
from jaxws.training.loop import train
from tests.support.small_run import assert_same_bits, checkpoint_of, prepare_small


def test_a_loss_that_is_not_finite_stops_the_run(config, tmp_path):
    config.optimizer.learning_rate = 1e30
    run = prepare_small(config, tmp_path / "run")
    with pytest.raises(
        FloatingPointError, match=r"loss is (nan|inf) at step \d+: the run has diverged"
    ):
        train(run)
    last = list(run.workdir.records())[-1]
    assert (last["kind"], last["event"]) == ("event", "diverged")
    assert last["message"].endswith(f" at step {last['step']}")
    for line in (run.workdir.path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # strict JSON: no NaN, no Infinity


def test_weights_that_diverged_are_not_saved(config, tmp_path):
    """One step an epoch: the loss before the update is fine, the weights after it are not."""
    config.batch_size, config.optimizer.learning_rate = 20, 1e30
    run = prepare_small(config, tmp_path / "run")
    with pytest.raises(FloatingPointError, match=r"test loss is (nan|inf) at step 1"):
        train(run)
    assert steps_in(run.workdir.checkpoints) == []


class Poisoned(NamedTuple):
    """Batches whose images are NaN at some steps."""

    batching: Any
    steps: tuple[int, ...]

    def train_batch(self, inputs, step):
        batch = self.batching.train_batch(inputs, step)
        poisoned = jnp.isin(step, np.array(self.steps))
        return batch._replace(image=jnp.where(poisoned, jnp.nan, batch.image))

    def eval_batch(self, inputs):
        return self.batching.eval_batch(inputs)


def prepare_poisoned(config, workdir, *steps):
    run = prepare_small(config, workdir)
    run.feed.batching = Poisoned(run.feed.batching, steps)
    return run


@pytest.mark.parametrize(("dtype", "action"), [("float16", "stop"), ("float32", "skip")])
def test_an_overflow_is_skipped_exactly_once(config, tmp_path, dtype, action):
    """In the sixth step; and a run that is stopped right after it goes on as if it were not."""
    config.model.dtype, config.divergence.action = dtype, action
    whole = prepare_poisoned(config, tmp_path / "whole", 5)
    train(whole)
    records = list(whole.workdir.records())
    assert [r["skipped"] for r in records if r["kind"] == "epoch"] == [0, 1, 0]
    steps = [r for r in records if r["kind"] == "train"]
    assert [r["step"] for r in steps if r["train_loss"] is None] == [6]
    if dtype == "float16":
        assert [r["loss_scale"] for r in steps] == [2.0**16] * 6 + [2.0**15] * 6
    else:
        assert "loss_scale" not in steps[0]
    assert all(r["train_loss"] > 0 for r in records if r["kind"] == "epoch")
    config.max_steps = 6
    train(prepare_poisoned(config, tmp_path / "parts", 5))
    config.max_steps = None
    parts = prepare_poisoned(config, tmp_path / "parts", 5)
    train(parts)
    assert_same_bits(checkpoint_of(parts.workdir)[1], checkpoint_of(whole.workdir)[1])


def test_a_step_that_is_not_skipped_stops_the_run(config, tmp_path):
    run = prepare_poisoned(config, tmp_path / "run", 5)
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 6: the run has diver"):
        train(run)
    last = list(run.workdir.records())[-1]
    assert (last["kind"], last["event"], last["step"]) == ("event", "diverged", 6)
    assert last["message"].endswith(" at step 6")
    for line in (run.workdir.path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # strict JSON: no NaN, no Infinity


def test_an_epoch_of_skipped_steps(config, tmp_path):
    config.divergence.action, config.epochs = "skip", 2
    record = train(prepare_poisoned(config, tmp_path / "run", *range(4, 8)))
    assert (record["skipped"], record["train_loss"]) == (4, None)
    assert ("training loss", "...") in summary_rows(record)
    config.divergence.max_skipped = 3
    with pytest.raises(FloatingPointError, match=r"3 steps in a row were skipped.* at step 7"):
        train(prepare_poisoned(config, tmp_path / "other", *range(4, 8)))
    # A run that stops after the second of them, which ends no epoch, goes on counting.
    config.max_steps = 6
    train(prepare_poisoned(config, tmp_path / "parts", *range(4, 8)))
    config.max_steps = None
    with pytest.raises(FloatingPointError, match=r"3 steps in a row were skipped.* at step 7"):
        train(prepare_poisoned(config, tmp_path / "parts", *range(4, 8)))
