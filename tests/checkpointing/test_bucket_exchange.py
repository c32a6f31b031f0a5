"""Checkpoints of two processes that share no file system, only a bucket."""

import os
from contextlib import closing

from jaxws.checkpointing.directory import steps_in
from jaxws.checkpointing.manager import Checkpoints
from jaxws.config import base_config
from jaxws.records.followed_workdir import open_workdir
from jaxws.records.places import opened_place
from tests.support.bucket_pair import live_twice
from tests.support.checkpoint_pair import assert_is, numbers
from tests.support.pair import Group

URL = "gs://bucket/runs/a"


def test_processes_that_share_only_a_bucket(bucket, tmp_path):
    """In two lives, each on machines that have nothing; then one process, on another mesh."""
    bucket.fails = lambda method, name: 403 * (method == "POST" and "/parts/2." in name)
    bucket.put("runs/a/parts/9.left/by a kill", b"")
    server = os.environ["TENSORSTORE_GCS_HTTP_URL"]
    pair = Group(tmp_path, live_twice, URL, server, tmp_path, devices=2)
    assert pair.end() == [0, 0], pair.lines()
    first, second = pair.lines("out")[0]
    cause = "process 1: gs://bucket/runs/a/parts/2"
    assert f"the checkpoint of step 2 could not be written ({cause}" in first
    assert second == "[]"
    assert not bucket.names("runs/a/parts/")
    with opened_place(URL) as (path, staging):
        workdir = open_workdir(path, base_config(), None, staging)
    with closing(workdir), closing(Checkpoints(workdir.checkpoints, 1)) as checkpoints:
        assert_is(checkpoints.restore(numbers(0)).state, 4)
        assert steps_in(workdir.checkpoints) == [4]
