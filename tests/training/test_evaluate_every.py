"""Runs that are not evaluated after every epoch: the same weights, and records that say so."""

import json

import pytest

from jaxws.__main__ import main
from jaxws.records.metrics_file import timeless
from jaxws.training import loop
from jaxws.training.loop import train
from tests.support.small_run import (
    STEPS_PER_EPOCH,
    assert_same_bits,
    checkpoint_of,
    prepare_small,
    timeless_lines,
)

SCORES = {"test_loss", "test_top1", "test_top5"}


def epochs_of(run):
    return [timeless(record) for record in run.workdir.records() if record["kind"] == "epoch"]


def test_an_epoch_without_evaluation_changes_no_other_number(config, tmp_path, capsys, monkeypatch):
    """Of three epochs the second is evaluated, and the last one; then also the first."""
    whole = prepare_small(config, tmp_path / "whole")
    train(whole)
    config.evaluate_every = 2
    some = prepare_small(config, tmp_path / "some")
    capsys.readouterr()
    assert train(some)["test_top1"] == epochs_of(whole)[-1]["test_top1"]
    assert_same_bits(*(checkpoint_of(run.workdir)[1] for run in (some, whole)))
    first, *others = epochs_of(some)
    expected, *rest = epochs_of(whole)
    assert others == rest
    assert first == {key: value for key, value in expected.items() if key not in SCORES}
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert ["test" in line for line in lines] == [False, True, True]

    # What is known of it is shown, and nothing is taken for a number that is not finite.
    assert main(["report", str(some.workdir.path)]) == 0
    page = (some.workdir.path / "report.html").read_text()
    assert "Test top-1 goes from" in page and "after epoch 2 to" in page
    table = page.partition("Means over each epoch")[2].partition("</table>")[0]
    assert table.count('<td class="number"></td>') == 2 and "not finite" not in table
    capsys.readouterr()
    assert main(["inspect", str(some.workdir.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["checkpoints"]
    assert all(each["test_top1"] is not None for each in found)

    def stop(trainer, steps):
        if steps.start == STEPS_PER_EPOCH:
            raise KeyboardInterrupt
        train_epoch(trainer, steps)

    train_epoch = loop._Trainer.train_epoch
    with monkeypatch.context() as patch:
        patch.setattr(loop._Trainer, "train_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            train(prepare_small(config, tmp_path / "stopped"))
    stopped = prepare_small(config, tmp_path / "stopped")
    assert epochs_of(stopped) == [first]
    stopped.workdir.close()
    for config.max_steps in (STEPS_PER_EPOCH, None):  # it ends there, and is evaluated; it goes on
        stopped = prepare_small(config, tmp_path / "stopped")
        train(stopped)
        assert epochs_of(stopped)[0] == expected
    assert_same_bits(*(checkpoint_of(run.workdir)[1] for run in (stopped, whole)))
    assert timeless_lines(stopped.workdir) == timeless_lines(whole.workdir)
