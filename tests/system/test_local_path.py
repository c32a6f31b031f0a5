"""Paths of users: local ones, in every command; anything else is one line and makes nothing."""

import os
from argparse import ArgumentTypeError

import pytest

from jaxws.__main__ import main
from jaxws.config import base_config
from jaxws.config.checks import check_config
from jaxws.system.local_path import local_path, parse_url, workdir_argument
from jaxws.system.user_cache import user_cache

PLACES = ["gs://bucket/run", "gs:/bucket", "S3://b", " hdfs://b", "file:///tmp/x", "az+x-1.y://b"]
NAMES = ["runs/a", "gs:", "a:b", "/a/gs:/b", "./gs:/b", "seed=[1]", "a//b", "://x", "é", "-"]


@pytest.mark.parametrize("given", PLACES)
def test_other_places_are_refused(given, monkeypatch):
    with pytest.raises(ValueError, match=r"^config.data.path=.*: expected a local path; "):
        local_path(given, "config.data.path")
    for field in ("path", "data_dir"):
        config = base_config()
        config.data.name = "digits"  # made here, while those of TFDS may be in a bucket
        setattr(config.data, field, given)
        with pytest.raises(ValueError, match=rf"^config\.data\.{field}=.*: expected a local path"):
            check_config(config)
    for variable in ("XDG_CACHE_HOME", "JAXWS_CACHE_DIR"):
        monkeypatch.setenv(variable, given)
        with pytest.raises(OSError, match=rf"^{variable}=.*: expected a local path"):
            user_cache()


@pytest.mark.parametrize("given", NAMES)
def test_what_only_looks_like_another_place(given):
    assert local_path(given, "--out") == local_path(os.fspath(given), "--out")
    assert str(local_path(given)).endswith(given.lstrip("./").replace("//", "/").lstrip("/"))


def test_a_home_that_is_not_there(monkeypatch):
    with pytest.raises(ValueError, match="no such home directory; write the path in full"):
        local_path("~nobody-of-this-name/runs", "--workdir")
    monkeypatch.setenv("HOME", "/somewhere")
    assert str(local_path("~/runs")) == "/somewhere/runs"


@pytest.mark.parametrize(
    "command",
    [
        "train --workdir=s3://bucket/x",
        "train --config.data.data_dir={}",
        "train --config=cifar10_lc --config.data.path={}",
        "train --config.model.init_from={}",
        "evaluate {}",
        "evaluate {} --data_dir=x",
        "inspect {}",
        "report {}",
        "export {} --out=w.npz",
        "export . --out={}.npz",
        "prepare cifar10 --data_dir={}",
        "prepare cifar10 --manual_dir={}",
        "preview --config=digits_lc --out={}.png",
        "preview --config=digits_lc --out=x.png --config.data.data_dir={}",
        "theorem1 --out={}",
        "convergence --figure=4 --out={}",
    ],
)
def test_every_command_refuses_other_places_and_makes_nothing(
    command, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as status:
        main(command.format("gs://bucket/x").split())
    assert status.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected a local path; " in line and "--workdir of train" in line
    assert not list(tmp_path.iterdir())


def test_the_directory_of_a_run_may_be_in_a_bucket():
    assert workdir_argument("gs://bucket/runs/a") == "gs://bucket/runs/a"
    assert parse_url("gs://my.bucket/a b/c[1]//") == ("my.bucket", "a b/c[1]")
    for given in ("gs://bucket", "gs:/bucket/a", "gs://b/a", "gs://Bucket/a", "gs://bucket/a/../b"):
        with pytest.raises(ArgumentTypeError, match=r"expected gs://BUCKET/DIRECTORY, such as"):
            workdir_argument(given)
    with pytest.raises(ArgumentTypeError, match=r"^s3://.*: expected a local path; other places"):
        workdir_argument("s3://bucket/a")
