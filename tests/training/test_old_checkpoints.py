"""A run of 26 November 2026, before modules had moved and metrics were a dict, goes on today.

``data/run_of_flat_layout.tar.gz`` holds the directories of two runs of the small configuration on
Python 3.13 and JAX 0.12.0.1: ``stopped`` after the first step of its second epoch, and ``whole``.
"""

import tarfile
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxws.checkpointing.manager import Checkpoints
from jaxws.checkpointing.metadata import read_metadata
from jaxws.records.metrics_file import timeless
from jaxws.training.loop import train
from tests.support.small_run import (
    STEPS_PER_EPOCH,
    assert_same_bits,
    checkpoint_of,
    make_folder,
    prepare_small,
    small_config,
)

ARCHIVE = Path(__file__).parent / "data" / "run_of_flat_layout.tar.gz"
LAST_STEP = 3 * STEPS_PER_EPOCH


def leaves_of(workdir):
    return jax.tree.map(np.asarray, checkpoint_of(workdir)[1])


def measured(workdir):
    """metrics.jsonl without the clock, and without the event that other versions are."""
    return [timeless(record) for record in workdir.records() if record["kind"] != "event"]


@pytest.mark.versions
def test_a_run_from_before_goes_on_and_ends_like_one_that_never_stopped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # paths of the data are part of the configuration
    config = small_config(make_folder(Path("images")), "tfds")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(filter="data")
    config.checkpoint.keep = 1
    stopped, whole, fresh = (prepare_small(config, p) for p in ("stopped", "whole", "fresh"))

    old = leaves_of(stopped.workdir)
    saved = Checkpoints(stopped.workdir.checkpoints, keep=1).restore(old, stopped.workdir.identity)
    assert_same_bits(jax.tree.map(np.asarray, saved.state), old)
    assert saved.metadata["step"] == STEPS_PER_EPOCH + 1
    assert saved.metadata["epoch"].keys() == {
        "loss", "top1", "top5", "images", "skipped", "skipped_in_a_row",
    }  # fmt: skip

    train(stopped)
    train(fresh)
    resumed, expected, today = (leaves_of(run.workdir) for run in (stopped, whole, fresh))
    pairs = zip(*map(jax.tree.leaves, (today, expected)), strict=True)
    same_bits = all(np.array_equal(*pair) for pair in pairs)
    if same_bits and measured(fresh.workdir) == measured(whole.workdir):
        # These versions on this machine compute what those of the archive did: all bits are equal.
        assert_same_bits(resumed, expected)
        assert measured(stopped.workdir) == measured(whole.workdir)
    for a, b in zip(jax.tree.leaves(resumed), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    history = read_metadata(whole.workdir.checkpoints / str(LAST_STEP))["history"]
    assert [record["step"] for record in history] == [4, 8, 12]
