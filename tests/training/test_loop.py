import json
import shutil
from typing import Any, NamedTuple
from unittest.mock import patch

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxws.__main__ import main
from jaxws.checkpointing.directory import steps_in
from jaxws.checkpointing.manager import Checkpoints
from jaxws.commands import evaluate
from jaxws.config.fields import flat_fields
from jaxws.data import build_feed
from jaxws.records.summary import summary_rows
from jaxws.training import loop
from jaxws.training.initial_weights import initial_weights
from jaxws.training.loop import train
from jaxws.training.run import build_model, prepare
from jaxws.training.weight_sharing import make_sharing
from tests.support.damage import flip_bit, largest_file, snapshot
from tests.support.small_run import (
    STEPS_PER_EPOCH,
    Small,
    assert_same_bits,
    checkpoint_of,
    prepare_small,
    small_config,
    timeless_lines,
)


@pytest.fixture
def config(folder, tmp_path):
    return small_config(folder, tmp_path / "tfds")


def test_a_run_learns_and_leaves_what_it_promises(config, tmp_path):
    config.epochs, config.optimizer.drop_epochs = 12, (8,)
    run = prepare(config, tmp_path / "run")
    record = train(run)
    assert record["epoch"] == 12
    assert record["step"] == 12 * STEPS_PER_EPOCH
    assert record["train_top1"] > 0.9
    assert record["test_top5"] == 1
    records = list(run.workdir.records())
    assert [r["step"] for r in records if r["kind"] == "train"] == list(range(1, 49))
    assert [r["epoch"] for r in records if r["kind"] == "epoch"] == list(range(1, 13))
    assert set(records[0]["neg_log_snr"]) >= {"conv1", "layer1_0/conv1", "layer2_0/downsample_0"}
    left = {"config.json", "lock", "metrics.jsonl", "provenance.json"}
    left |= {"checkpoints", "checkpoints.newest"}
    assert {p.name for p in run.workdir.path.iterdir()} == left
    assert main(["report", str(run.workdir.path)]) == 0
    plots = {"accuracy.png", "curves.png", "snr.png"}
    assert {p.name for p in run.workdir.path.iterdir()} == left | plots | {"report.html"}
    page = (run.workdir.path / "report.html").read_text()  # says what was read for "cifar10"
    assert f"; {run.feed.name}; seed 0" in page and run.feed.path in page
    for plot in plots:
        with Image.open(run.workdir.path / plot) as image:
            assert image.size[0] > 500
    # Every image of every epoch counts once, in training and in evaluation.
    assert record["test_top1"] * 7 == pytest.approx(round(record["test_top1"] * 7))
    assert record["train_top1"] * 20 == pytest.approx(round(record["train_top1"] * 20))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_three_steps_reproduce_themselves_bit_for_bit(config, tmp_path, dtype):
    config.max_steps, config.model.dtype = 3, dtype
    runs = [prepare_small(config, tmp_path / name) for name in ("first", "second")]
    for run in runs:
        train(run)
    (step, first), (_, second) = (checkpoint_of(run.workdir) for run in runs)
    assert step == 3
    assert_same_bits(first, second)
    assert timeless_lines(runs[0].workdir) == timeless_lines(runs[1].workdir)
    config.seed = 1
    other = prepare_small(config, tmp_path / "other")
    train(other)
    assert timeless_lines(other.workdir) != timeless_lines(runs[0].workdir)


@pytest.mark.parametrize(
    ("stop", "every"), [pytest.param(4, 2, marks=pytest.mark.versions), (6, 2), (1, 1), (6, 1)]
)
def test_a_resumed_run_ends_like_one_never_stopped(config, tmp_path, stop, every):
    """Stopped at an epoch's end or within one, between batches that share, after the first one."""
    config.sharing.every = every
    whole = prepare_small(config, tmp_path / "whole")
    train(whole)
    config.max_steps = stop
    train(prepare_small(config, tmp_path / "parts"))
    config.max_steps = None
    parts = prepare_small(config, tmp_path / "parts")
    assert parts.workdir.resumed
    train(parts)
    (step, expected), (_, actual) = (checkpoint_of(run.workdir) for run in (whole, parts))
    assert step == 3 * STEPS_PER_EPOCH
    assert_same_bits(actual, expected)
    assert timeless_lines(parts.workdir) == timeless_lines(whole.workdir)
    # A second start has nothing left to do and changes nothing.
    before = (parts.workdir.path / "metrics.jsonl").read_bytes()
    assert train(prepare_small(config, tmp_path / "parts"))["step"] == step
    assert (parts.workdir.path / "metrics.jsonl").read_bytes() == before


@pytest.fixture
def evaluated(monkeypatch, capsys):
    """Calls `evaluate` on a small run; returns its scores, or the line that says what is wrong."""
    monkeypatch.setattr(evaluate, "build_model", lambda c, classes: Small(classes, c.dtype))

    def call(workdir, *arguments):
        try:
            assert main(["evaluate", str(workdir), "--json", *arguments]) == 0
            return json.loads(capsys.readouterr().out)
        except SystemExit:
            return capsys.readouterr().err

    return call


def test_data_are_the_same_wherever_they_lie(config, folder, tmp_path, evaluated):
    """A copy of another name and time of change, prepared anew: same bits; other images: none."""
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(folder, here, copy_function=shutil.copyfile)
    config.data.path, config.max_steps = str(here), 8
    whole = prepare_small(config, tmp_path / "whole")
    last = train(whole)
    config.max_steps = 4
    train(prepare_small(config, tmp_path / "run"))
    shutil.copytree(here, there, copy_function=shutil.copyfile)
    shutil.rmtree(here)
    config.data.path, config.data.data_dir, config.max_steps = str(there), str(tmp_path / "new"), 8
    run = prepare_small(config, tmp_path / "run")
    train(run)
    assert_same_bits(*(checkpoint_of(r.workdir)[1] for r in (whole, run)))
    assert timeless_lines(run.workdir) == timeless_lines(whole.workdir)

    assert "/here' does not exist: check --config.data.path" in evaluated(tmp_path / "run")
    for flag in ("--data_path", "--config.data.path"):
        assert evaluated(tmp_path / "run", f"{flag}={there}")["top1"] == last["test_top1"]

    image = there / "test" / "dark" / "0.png"
    shutil.copyfile(there / "test" / "dark" / "1.png", image)
    with pytest.raises(ValueError, match=rf"test_crc32: \d+ there, \d+ here; .*'{there}' here"):
        prepare_small(config, tmp_path / "run")
    line = evaluated(tmp_path / "run", f"--data_path={there}")
    assert f"folder '{there}': the data are not those of the run (test_crc32: " in line
    assert line.startswith("error: ") and "by --data_path or --data_dir" in line


def test_steps_after_the_last_checkpoint_are_done_again(config, tmp_path):
    """As after a crash in the middle of an epoch: metrics are ahead of the checkpoint."""
    config.max_steps = 4
    run = prepare_small(config, tmp_path / "run")
    train(run)
    expected = timeless_lines(run.workdir)
    for step in (5, 6):
        run.workdir.append({"kind": "train", "step": step, "neg_log_snr": {}})
    config.max_steps = 8
    train(prepare_small(config, tmp_path / "run"))
    assert timeless_lines(run.workdir).startswith(expected)
    assert [r["step"] for r in run.workdir.records()] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8]


def test_a_loss_that_is_not_finite_stops_the_run(config, tmp_path):
    config.optimizer.learning_rate = 1e30
    run = prepare_small(config, tmp_path / "run")
    with pytest.raises(
        FloatingPointError, match=r"loss is (nan|inf) at step \d+: the run has diverged"
    ):
        train(run)
    for line in (run.workdir.path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # strict JSON: no NaN, no Infinity


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
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 6: the run has diver"):
        train(prepare_poisoned(config, tmp_path / "run", 5))


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


def test_rate_and_norm_of_every_step_are_recorded(config, tmp_path):
    """The rate drops after the first and the second of three epochs, unless it is said when."""
    config.optimizer.drop_epochs = None
    run = prepare_small(config, tmp_path / "run")
    train(run)
    steps = [record for record in run.workdir.records() if record["kind"] == "train"]
    rates = [1e-3] * 4 + [2.5e-4] * 4 + [6.25e-5] * 4
    assert [record["learning_rate"] for record in steps] == pytest.approx(rates)
    assert all(record["grad_norm"] > 0 for record in steps)


def test_gradients_in_parts_train_as_well(config, tmp_path):
    config.accumulate, config.max_steps = 3, 4  # of 6 images; of the last batch, 2 are real
    run = prepare_small(config, tmp_path / "run")
    assert train(run)["train_loss"] > 0


def test_weights_that_diverged_are_not_saved(config, tmp_path):
    """One step an epoch: the loss before the update is fine, the weights after it are not."""
    config.batch_size, config.optimizer.learning_rate = 20, 1e30
    run = prepare_small(config, tmp_path / "run")
    with pytest.raises(FloatingPointError, match=r"test loss is (nan|inf) at step 1"):
        train(run)
    assert steps_in(run.workdir.checkpoints) == []


def test_changed_data_are_refused(config, folder, tmp_path):
    config.data.path = str(tmp_path / "copy")
    shutil.copytree(folder, config.data.path)
    config.max_steps = 1
    train(prepare_small(config, tmp_path / "run"))
    first, second = sorted((tmp_path / "copy" / "train" / "dark").iterdir())[:2]
    shutil.copy(first, second)
    with pytest.raises(ValueError, match=r"dataset\.train_crc32"):
        prepare_small(config, tmp_path / "run")


def test_lost_metrics_come_back_from_the_checkpoint(config, tmp_path):
    """All but the measurements of single steps, also where nothing is left to train."""
    config.epochs = 2
    run = prepare_small(config, tmp_path / "run")
    expected = train(run)
    epochs = [record for record in run.workdir.records() if record["kind"] == "epoch"]
    (run.workdir.path / "metrics.jsonl").unlink()
    assert train(prepare_small(config, tmp_path / "run")) == expected
    assert list(run.workdir.records()) == epochs


def test_nothing_is_made_where_something_is_wrong(config, tmp_path):
    config.batch_size = 21
    with pytest.raises(ValueError, match="larger than the data"):
        prepare(config, tmp_path / "run")
    config.batch_size, config.model.depth = 6, 9
    with pytest.raises(ValueError, match="6n \\+ 2"):
        prepare(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_damaged_checkpoint_is_set_aside_and_the_run_ends_the_same(config, tmp_path, capsys):
    run = prepare_small(config, tmp_path / "run")
    train(run)
    _, expected = checkpoint_of(run.workdir)
    lines = timeless_lines(run.workdir)
    flip_bit(largest_file(run.workdir.checkpoints / "12"))
    again = prepare_small(config, tmp_path / "run")
    assert train(again)["step"] == 12
    assert "checkpoints/12 is damaged" in capsys.readouterr().err
    assert_same_bits(checkpoint_of(again.workdir)[1], expected)
    # Nothing was removed, and beside what happened the metrics are what they were.
    assert (run.workdir.checkpoints / "12.damaged").exists()
    event = next(r for r in again.workdir.records() if r["kind"] == "event")
    assert (event["step"], event["event"]) == (8, "damaged checkpoint")
    assert timeless_lines(again.workdir).replace(json.dumps(event) + "\n", "") == lines


def test_without_any_good_checkpoint_a_run_does_not_start_anew(config, tmp_path):
    config.max_steps = 8
    run = prepare_small(config, tmp_path / "run")
    train(run)
    for step in (4, 8):
        flip_bit(largest_file(run.workdir.checkpoints / str(step)))
    before = snapshot(run.workdir.path)
    with pytest.raises(
        ValueError, match=r"no good checkpoint is left in .*: 8 is damaged, .*; 4 is"
    ):
        train(prepare_small(config, tmp_path / "run"))
    assert snapshot(run.workdir.path) == before
    shutil.rmtree(run.workdir.checkpoints / "4")
    shutil.rmtree(run.workdir.checkpoints / "8")
    with pytest.raises(ValueError, match="that of step 8 is gone, and there is no other"):
        train(prepare_small(config, tmp_path / "run"))


def test_checkpoints_of_another_run_are_refused(config, tmp_path):
    config.max_steps = 1
    run = prepare_small(config, tmp_path / "run")
    train(run)
    config.seed, config.optimizer.weight_decay = 1, 0.5
    other = prepare_small(config, tmp_path / "other")
    shutil.copytree(run.workdir.checkpoints, other.workdir.checkpoints)
    before = snapshot(other.workdir.path)
    with pytest.raises(
        ValueError, match=r"config.optimizer.weight_decay: 0.01 there, 0.5 here; .*seed"
    ):
        train(other)
    assert snapshot(other.workdir.path) == before


def test_a_checkpoint_of_another_network_is_refused(config, tmp_path):
    """The same configuration, and a network that it does not describe."""
    config.max_steps = 1
    train(prepare_small(config, tmp_path / "run"))
    run = prepare(config, tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"another network or optimizer \(.*float32\[.*\] there, none"
    ):
        train(run)


def test_a_disk_that_is_full_until_the_end(config, tmp_path, capsys):
    """The last checkpoint is missing, which is an error; given room, the same command mends it."""
    config.max_steps = 4
    train(prepare_small(config, tmp_path / "run"))
    config.max_steps, failing = 8, {"side_effect": OSError(28, "No space left on device")}
    with (
        patch("jaxws.checkpointing.manager.write_checksums", **failing),
        pytest.raises(OSError, match="could not be written; the newest is of step 4: make room"),
    ):
        train(prepare_small(config, tmp_path / "run"))
    assert "step 8 could not be written (No space left on device)" in capsys.readouterr().err
    run = prepare_small(config, tmp_path / "run")
    assert train(run)["step"] == 8
    assert steps_in(run.workdir.checkpoints) == [4, 8]


def test_the_best_checkpoint_is_kept_and_others_as_often_as_asked_for(
    config, tmp_path, monkeypatch
):
    """Accuracies 0.2, 0.8, 0.8, 0.6, 0.6: the newest of the best, and the last one."""
    hits = iter([0.2, 0.8, 0.8, 0.6, 0.6])
    monkeypatch.setattr(
        loop._Trainer,
        "evaluate",
        lambda _: {"test_loss": 1.0, "test_top1": next(hits), "test_top5": 1.0},
    )
    written = []
    monkeypatch.setattr(Checkpoints, "save", spy(Checkpoints.save, written))
    config.epochs, config.checkpoint.keep, config.checkpoint.every_steps = 5, 1, 7
    run = prepare_small(config, tmp_path / "run")
    train(run)
    # Every seven steps, at the end, and after the epochs that were the best so far.
    assert written == [4, 7, 8, 12, 14, 20]
    assert steps_in(run.workdir.checkpoints) == [12, 20]


def spy(save, written):
    def wrapped(self, state, facts):
        written.append(int(state.step))
        save(self, state, facts)

    return wrapped


class Recorder:
    """A configuration that remembers which fields were read."""

    def __init__(self, config, seen, prefix=""):
        self._config, self._seen, self._prefix = config, seen, prefix

    def __getattr__(self, name):
        key, value = f"{self._prefix}{name}", getattr(self._config, name)
        if hasattr(value, "to_dict"):
            return Recorder(value, self._seen, f"{key}.")
        self._seen.add(key)
        return value


def test_every_knob_is_read(config, tmp_path):
    config.max_steps = 1
    run, seen = prepare_small(config, tmp_path / "run"), set()
    recorder = Recorder(config, seen)
    feed = build_feed(recorder)
    build_model(recorder.model, 2)
    with config.unlocked():
        model = config.model.copy_and_resolve_references()
        config.model.update(architecture="vit", width=4)
        build_model(recorder.model, 2)
        config.model = model
    for mode in ("sleep", "online"):
        config.sharing.mode = mode
        make_sharing(recorder, run.model, feed.image_shape, STEPS_PER_EPOCH)
    config.sharing.mode = "instant"
    config.model.init_from = str(tmp_path / "nowhere.npz")
    with pytest.raises(ValueError, match="no such file"):
        initial_weights(recorder, tmp_path / "other", run.model, feed.image_shape)
    config.model.init_from = None
    train(run._replace(config=recorder, feed=feed))
    assert seen == {key for key, _ in flat_fields(config)}
