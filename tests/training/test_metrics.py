"""What is counted, and a metric of somebody else's, through a run, a stop and the report."""

import json

import jax.numpy as jnp
import pytest

from jaxws.commands.inspect import inspect
from jaxws.records.report import write_report
from jaxws.records.run_directory import read_run
from jaxws.records.summary import summary_rows
from jaxws.training.loop import train
from jaxws.training.metrics import METRICS, EpochTotals
from tests.support.small_run import STEPS_PER_EPOCH, prepare_small, small_config

OLD = {"loss": 3.0, "top1": 1.0, "top5": 2.0, "images": 2.0, "skipped": 1, "skipped_in_a_row": 0}


@pytest.fixture
def entropy(monkeypatch):
    """A metric that jaxws does not have; nothing but its entry is added."""

    def entropy(logits, labels):
        probabilities = jnp.exp(logits) / jnp.exp(logits).sum(1, keepdims=True)
        return -(probabilities * jnp.log(probabilities)).sum(1)

    monkeypatch.setitem(METRICS, "entropy", entropy)


def test_totals_of_old_checkpoints_are_read_and_newer_metrics_have_no_mean(entropy):
    totals = EpochTotals.from_json(OLD)
    assert totals.skipped == 1
    step = {"loss": 1.0, "top1": 1.0, "top5": 1.0, "entropy": 0.5, "images": 1.0}
    assert totals.add(step, skipped=False)["train_entropy"] == 0.5
    assert totals.sums["loss"] == 4.0
    assert totals.sums["entropy"] != totals.sums["entropy"]  # NaN
    assert EpochTotals.from_json(OLD | {"images": 0.0}).sums["entropy"] == 0.0
    assert totals.next_epoch().sums["entropy"] == 0.0


def test_a_metric_of_others_needs_one_entry(entropy, folder, data_dir, tmp_path, capsys):
    config = small_config(folder, data_dir)
    config.checkpoint.keep = 5
    for config.max_steps in (STEPS_PER_EPOCH + 1, 2 * STEPS_PER_EPOCH):
        record = train(prepare_small(config, tmp_path / "run"))
    assert 0 < record["test_entropy"] <= jnp.log(2.0)
    assert 0 < record["train_entropy"] <= jnp.log(2.0)  # of all steps, those before the stop too
    assert dict(summary_rows(record))["test entropy"] == f"{record['test_entropy']:.4f}"
    run = read_run(tmp_path / "run")
    write_report(run)
    assert "test entropy" in (tmp_path / "run" / "report.html").read_text()
    assert all("train_entropy" in r for r in run.of_kind("train"))
    saved = json.loads(next(run.checkpoints.glob("8/run/metadata")).read_text())
    assert "entropy" in saved["epoch"]
    del run.of_kind("epoch")[0]["test_entropy"]  # as if it had been added after the first epoch
    found = {each["step"]: each["test_entropy"] for each in inspect(run)["checkpoints"]}
    assert (found[4], found[8]) == (None, record["test_entropy"])
