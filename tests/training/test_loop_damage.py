"""What a run does where its checkpoints, its data or its metrics are not what it left."""

import json
import shutil
from unittest.mock import patch

import pytest

from jaxws.checkpointing.directory import steps_in
from jaxws.training.loop import train
from jaxws.training.run import prepare
from tests.support.damage import flip_bit, largest_file, snapshot
from tests.support.small_run import (
    assert_same_bits,
    checkpoint_of,
    prepare_small,
    small_config,
    timeless_lines,
)


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    """A run of three epochs: its directory, and what it returned."""
    path = tmp_path_factory.mktemp("done")
    run = prepare_small(small_config(folder, path / "tfds"), path / "run")
    return run.workdir, train(run)


@pytest.fixture
def copied(done, tmp_path):
    """A copy of it, to damage."""
    return shutil.copytree(done[0].path, tmp_path / "run")


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


def test_changed_data_are_refused(config, folder, tmp_path):
    config.data.path = str(tmp_path / "copy")
    shutil.copytree(folder, config.data.path)
    config.max_steps = 1
    train(prepare_small(config, tmp_path / "run"))
    first, second = sorted((tmp_path / "copy" / "train" / "dark").iterdir())[:2]
    shutil.copy(first, second)
    with pytest.raises(ValueError, match=r"dataset\.train_crc32"):
        prepare_small(config, tmp_path / "run")


def test_lost_metrics_come_back_from_the_checkpoint(config, done, copied):
    """All but the measurements of single steps, also where nothing is left to train."""
    whole, expected = done
    epochs = [record for record in whole.records() if record["kind"] == "epoch"]
    (copied / "metrics.jsonl").unlink()
    run = prepare_small(config, copied)
    assert train(run) == expected
    assert list(run.workdir.records()) == epochs


def test_a_damaged_checkpoint_is_set_aside_and_the_run_ends_the_same(config, done, copied, capsys):
    flip_bit(largest_file(copied / "checkpoints" / "12"))
    again = prepare_small(config, copied)
    assert train(again)["step"] == 12
    assert "checkpoints/12 is damaged" in capsys.readouterr().err
    assert_same_bits(checkpoint_of(again.workdir)[1], checkpoint_of(done[0])[1])
    # Nothing was removed, and beside what happened the metrics are what they were.
    assert (again.workdir.checkpoints / "12.damaged").exists()
    event = next(r for r in again.workdir.records() if r["kind"] == "event")
    assert (event["step"], event["event"]) == (8, "damaged checkpoint")
    lines = timeless_lines(again.workdir)
    assert lines.replace(json.dumps(event) + "\n", "") == timeless_lines(done[0])


def test_without_any_good_checkpoint_a_run_does_not_start_anew(config, copied):
    checkpoints = [copied / "checkpoints" / str(step) for step in steps_in(copied / "checkpoints")]
    for checkpoint in checkpoints:
        flip_bit(largest_file(checkpoint))
    before = snapshot(copied)
    with pytest.raises(
        ValueError, match=r"no good checkpoint is left in .*: 12 is damaged, .*; 8 is"
    ):
        train(prepare_small(config, copied))
    assert snapshot(copied) == before
    for checkpoint in checkpoints:
        shutil.rmtree(checkpoint)
    with pytest.raises(ValueError, match="that of step 12 is gone, and there is no other"):
        train(prepare_small(config, copied))


def test_checkpoints_of_another_run_are_refused(config, done, tmp_path):
    config.seed, config.optimizer.weight_decay = 1, 0.5
    other = prepare_small(config, tmp_path / "other")
    shutil.copytree(done[0].checkpoints, other.workdir.checkpoints)
    before = snapshot(other.workdir.path)
    with pytest.raises(
        ValueError, match=r"config.optimizer.weight_decay: 0.01 there, 0.5 here; .*seed"
    ):
        train(other)
    assert snapshot(other.workdir.path) == before


def test_a_checkpoint_of_another_network_is_refused(config, copied):
    """The same configuration, and a network that it does not describe."""
    run = prepare(config, copied)
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
