"""What a run's directory says of its data: what was read, and not what was asked for."""

import os
import re
import shutil

import pytest

from jaxws.config import base_config
from jaxws.data import build, build_feed
from jaxws.records.provenance import data_facts
from jaxws.records.run_directory import read_run
from jaxws.records.workdir import Workdir
from tests.support.image_folder import make_folder


@pytest.fixture
def config(tmp_path):
    config = base_config()
    config.batch_size = config.eval_batch_size = 2
    config.data.data_dir = str(tmp_path / "tfds")
    return config


@pytest.mark.parametrize("on_host", [False, True])
def test_a_folder_is_recorded_as_what_it_is(config, tmp_path, monkeypatch, on_host):
    """Given to a configuration of CIFAR-10, by a link and from the directory above it."""
    folder = make_folder(tmp_path / "pets")
    (tmp_path / "link").symlink_to(folder)
    config.data.path = str(tmp_path / "tfds" / ".." / "link")
    (tmp_path / "tfds").mkdir()
    if on_host:
        monkeypatch.setattr(build, "MAX_BYTES", 0)
        config.data.mean_std, config.data.crop_size = "imagenet", 4
    facts = data_facts(build_feed(config))
    assert (facts["name"], facts["path"]) == ("pets", str(folder))
    assert facts["train_images"] == 6 and len(facts["class_names"]) == 2
    assert facts["checksums"]["classes"] == 2
    assert facts["checksums"].keys() & {"train_crc32", "content_sha256"}
    moved = shutil.copytree(folder, tmp_path / "moved", copy_function=shutil.copyfile)
    config.data.path = str(moved)
    other = data_facts(build_feed(config))
    assert (other["name"], other["path"]) == ("moved", str(moved))
    same = "content_sha256" if on_host else "train_crc32"
    assert other["checksums"][same] == facts["checksums"][same]


def test_data_without_a_folder_have_no_path(config):
    config.data.name, config.data.data_dir, config.batch_size = "digits", None, 100
    facts = data_facts(build_feed(config))
    assert (facts["name"], facts["path"]) == ("digits", None)


@pytest.mark.parametrize("name", ["config.json", "provenance.json", "metrics.jsonl"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_files_of_a_run_that_never_end_are_not_read(tmp_path, name, make):
    Workdir(tmp_path, base_config()).close()
    (tmp_path / name).unlink(missing_ok=True)
    make(tmp_path / name)
    if name == "config.json":
        with pytest.raises(ValueError, match=r"it has no config\.json"):
            read_run(tmp_path)
    else:
        with pytest.raises(OSError, match=rf"{re.escape(name)} is no plain file: remove it"):
            read_run(tmp_path)
