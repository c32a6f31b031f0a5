"""Runs that older versions wrote go on today, and end as they would have ended.

``data/run_of_flat_layout.tar.gz`` holds the directories of two runs of the small configuration, of
26 November 2026, before modules had moved and metrics were a dict, on Python 3.13 and JAX 0.12.0.1:
``stopped`` after the first step of its second epoch, and ``whole``.
"""

import json
import tarfile
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxws.__main__ import main
from jaxws.checkpointing.checksums import write_checksums
from jaxws.checkpointing.manager import Checkpoints
from jaxws.checkpointing.metadata import read_metadata
from jaxws.commands import evaluate
from jaxws.records.metrics_file import timeless
from jaxws.records.run_directory import read_run
from jaxws.training.loop import train
from tests.support.small_run import (
    STEPS_PER_EPOCH,
    Small,
    assert_same_bits,
    checkpoint_of,
    make_folder,
    prepare_small,
    small_config,
)

ARCHIVE = Path(__file__).parent / "data" / "run_of_flat_layout.tar.gz"
# Python 3.11 has filters since 3.11.4, and Python 3.14 warns where none is given.
DATA = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
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
        archive.extractall(**DATA)
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


def count_images(workdir):
    """Makes a run of several views one of a version in which ``batch_size`` counted images."""
    checkpoints = list(workdir.checkpoints.glob("[0-9]*"))
    for file in (workdir.path / "config.json", *(each / "run/metadata" for each in checkpoints)):
        content = json.loads(file.read_text())
        fields = content.get("identity", content)["config"]
        assert fields.pop("batch_size counts") == "views"
        fields["batch_size"] //= fields["data.n_reps"]
        file.write_text(json.dumps(content))
    for each in checkpoints:
        write_checksums(each)


def test_a_run_whose_batches_counted_images_goes_on_with_views(config, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "build_model", lambda c, classes: Small(classes, c.dtype))
    config.epochs, config.data.n_reps, config.batch_size = 2, 2, 12
    whole = prepare_small(config, tmp_path / "whole")
    train(whole)
    config.max_steps = STEPS_PER_EPOCH + 1
    train(prepare_small(config, tmp_path / "old"))
    old = prepare_small(config, tmp_path / "old").workdir
    old.close()
    count_images(old)

    config.max_steps, config.batch_size = None, 6
    expected = r"batch_size: 12 there, 6 here; .* older .* 2 views: --config.batch_size=12 goes on"
    with pytest.raises(ValueError, match=expected):
        prepare_small(config, old.path)
    assert read_run(old.path).config.batch_size == 12
    weights = f"--out={tmp_path / 'weights.npz'}"
    for command in (["inspect"], ["report"], ["evaluate"], ["export", weights]):
        assert main([*command, str(old.path)]) == 0

    config.batch_size = 12
    resumed = prepare_small(config, old.path)
    train(resumed)
    assert_same_bits(*(checkpoint_of(run.workdir)[1] for run in (resumed, whole)))
    assert measured(resumed.workdir) == measured(whole.workdir)
