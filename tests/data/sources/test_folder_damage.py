"""Folders of images, or what was prepared of them, that are damaged."""

import logging
import re

import numpy as np
import pytest

from tests.support.damage import truncate
from tests.support.image_folder import assert_equal, load, make_folder, noise, save


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "pets")


def make_corrupt(folder):
    save(noise(0, size=(64, 64)), folder / "train/cat/1.jpg")
    save(noise(0, size=(64, 64)), folder / "test/dog/1.png")
    for name in ("train/cat/1.jpg", "test/dog/1.png"):
        truncate(folder / name)
    (folder / "train/dog/7.png").write_bytes(b"")
    (folder / "train/dog/8.jpeg").write_text("not an image")


def test_corrupt_images_are_all_named(folder, tmp_path):
    make_corrupt(folder)
    names = "train/cat/1.jpg, train/dog/7.png, train/dog/8.jpeg, test/dog/1.png"
    with pytest.raises(ValueError, match=rf"4 corrupt image.*{names};.*on_corrupt=skip"):
        load(folder, tmp_path)
    assert not list((tmp_path / "tfds").glob("image_folder/*/*"))


def test_many_corrupt_images_are_counted(folder, tmp_path):
    for i in range(8):
        (folder / f"train/cat/x{i}.jpg").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"8 corrupt.* train/cat/x4.jpg and 3 more;"):
        load(folder, tmp_path)


def test_corrupt_images_can_be_left_out_with_one_warning(folder, tmp_path, caplog):
    whole = load(folder, tmp_path)
    make_corrupt(folder)
    for _ in range(2):  # While preparing, and when the prepared copy is read again.
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert_equal(load(folder, tmp_path, on_corrupt="skip"), whole)
        (message,) = [record.getMessage() for record in caplog.records]
        assert "Left out 4 corrupt" in message and "train/dog/8.jpeg" in message
    # The copy that was prepared by leaving images out does not hide them from 'error'.
    with pytest.raises(ValueError, match="4 corrupt image"):
        load(folder, tmp_path)


def test_a_class_of_corrupt_images_only(folder, tmp_path):
    (folder / "test/dog/0.png").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"every image of 1 class.*'test'.*dog"):
        load(folder, tmp_path, on_corrupt="skip")


def test_an_interrupted_preparation_works_the_second_time(folder, tmp_path, monkeypatch):
    first = load(folder, tmp_path / "first")

    def interrupted(data, channels):
        raise KeyboardInterrupt

    save(noise(0, mode="L").convert("RGBA"), folder / "train/cat/0.png")
    with monkeypatch.context() as patched:
        patched.setattr("jaxws.data.sources.folder.decode_image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load(folder, tmp_path)
    assert not list((tmp_path / "tfds").glob("image_folder/*/*"))
    again = load(folder, tmp_path)
    np.testing.assert_array_equal(again.train.images[1:], first.train.images[1:])


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_damaged_prepared_data_is_explained(folder, tmp_path, damage):
    load(folder, tmp_path)
    (shard,) = (tmp_path / "tfds").glob("image_folder/*/*/*train*array_record*")
    if damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:1000])
    message = re.escape(str(shard.parent)) + " cannot be read .*delete that directory"
    with pytest.raises(ValueError, match=message):
        load(folder, tmp_path)
