"""Runs whose directory is in a bucket: stopped or killed, and gone on with on another machine."""

import json

import pytest

from jaxws.training.loop import train
from tests.support.small_run import (
    STEPS_PER_EPOCH,
    assert_same_bits,
    checkpoint_of,
    prepare_small,
    small_config,
    timeless_lines,
)

URL = "gs://bucket/runs/a"


@pytest.fixture
def config(folder, tmp_path):
    return small_config(folder, tmp_path)


def test_a_run_ends_with_the_same_bits_wherever_it_goes_on(bucket, config, tmp_path):
    whole = prepare_small(config, tmp_path / "whole")
    train(whole)
    config.max_steps = STEPS_PER_EPOCH + 1
    train(prepare_small(config, URL))
    # As a kill leaves it that comes while the last checkpoint is sent.
    names = [name for name, _ in bucket.changes]
    leave(bucket, bucket.changes[: names.index("runs/a/checkpoints/5/sha256.json")])
    bucket.machine = tmp_path / "another machine"
    config.max_steps = 3 * STEPS_PER_EPOCH
    run = prepare_small(config, URL)
    assert run.workdir.resumed and run.workdir.path.is_relative_to(bucket.machine)
    train(run)
    assert_same_bits(checkpoint_of(run.workdir)[1], checkpoint_of(whole.workdir)[1])
    assert timeless_lines(run.workdir) == timeless_lines(whole.workdir)
    sent = bucket.text("runs/a/metrics.jsonl").splitlines()
    assert json.loads(sent[-1])["step"] == 3 * STEPS_PER_EPOCH
    lists = [name for name in bucket.names() if name.endswith("sha256.json")]
    assert lists == [f"runs/a/checkpoints/{step}/sha256.json" for step in (12, 8)]


def leave(bucket, changes):
    """What there is after so many changes, and after whoever made them has been watched."""
    changes = list(changes)
    bucket.objects.clear()
    for name, content in changes:
        bucket.objects.pop(name, None)
        if content is not None and name != "runs/a/lock":
            bucket.put(name, content)


def test_another_configuration_is_refused_and_nothing_is_changed(bucket, config):
    config.max_steps = 1
    train(prepare_small(config, URL))
    before = dict(bucket.objects)
    config.seed = 7
    with pytest.raises(ValueError, match=rf"^workdir {URL} holds a run with another configuration"):
        prepare_small(config, URL)
    assert bucket.objects == before
