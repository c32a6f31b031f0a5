"""A run from end to end: what it learns and leaves, repeats to the last bit, and resumes."""

import json
import shutil

import pytest
from PIL import Image

from jaxws.__main__ import main
from jaxws.commands import evaluate
from jaxws.training.loop import train
from jaxws.training.run import prepare
from tests.support.small_run import (
    STEPS_PER_EPOCH,
    Small,
    assert_same_bits,
    checkpoint_of,
    prepare_small,
    timeless_lines,
)


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
    assert f"; {run.feed.name}</p>" in page and "seed: 0;" in page and run.feed.path in page
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


def test_nothing_is_made_where_something_is_wrong(config, tmp_path):
    config.batch_size = 21
    with pytest.raises(ValueError, match="larger than the data"):
        prepare(config, tmp_path / "run")
    config.batch_size, config.model.depth = 6, 9
    with pytest.raises(ValueError, match="6n \\+ 2"):
        prepare(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
