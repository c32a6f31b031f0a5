"""Folders of images, or what was prepared of them, that are damaged."""

import contextlib
import logging
import os
import re
import socket

import numpy as np
import pytest

from jaxws.data.sources.image_files import ImageFile, read_image_file
from jaxws.data.sources.images import UndecodableImageError, inspect_image
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
    reasons = (
        r"train/cat/1.jpg \(image file is truncated.*\), train/dog/7.png \(the file is empty\), "
        r"train/dog/8.jpeg \(.* no known format, it begins with b'not an image'\), test/dog/1.png "
    )
    with pytest.raises(ValueError, match=rf"4 corrupt image.*{reasons}.*on_corrupt=skip"):
        load(folder, tmp_path)
    assert not list((tmp_path / "tfds").glob("image_folder/*/*"))


def test_many_corrupt_images_are_counted(folder, tmp_path):
    for i in range(8):
        (folder / f"train/cat/x{i}.jpg").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"8 corrupt.* train/cat/x4.jpg \(.*\) and 3 more;"):
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


def make_device(path):
    path.symlink_to("/dev/zero")


def make_socket(path):
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path.name)  # Its whole path would be too long.


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (os.mkfifo, "a named pipe"),
        (make_device, "a device"),
        (make_socket, "a socket"),
        (os.mkdir, "a folder"),
    ],
)
def test_what_is_no_file_is_never_opened(folder, tmp_path, make, what):
    make(folder / "train/cat/1.jpg")
    with pytest.raises(ValueError, match=rf"train/cat/1.jpg \({what}, not a file\)"):
        load(folder, tmp_path)
    assert len(load(folder, tmp_path, on_corrupt="skip").train.labels) == 6


def test_a_file_that_becomes_a_pipe_is_not_waited_for(folder):
    os.mkfifo(folder / "train/cat/1.jpg")
    with pytest.raises(ValueError, match=r"1.jpg' cannot be read \(it is a named pipe"):
        read_image_file(folder, ImageFile("train/cat/1.jpg", "cat", 7))


def test_a_file_of_a_terabyte_is_not_read(folder, tmp_path):
    (folder / "train/cat/1.jpg").touch()
    os.truncate(folder / "train/cat/1.jpg", 2**40)
    with pytest.raises(ValueError, match=r"train/cat/1.jpg \(more than 1 GiB\)"):
        load(folder, tmp_path)


def test_a_copy_that_left_out_sound_images_is_not_trusted(folder, tmp_path, monkeypatch):
    whole = load(folder, tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr("jaxws.data.sources.folder._CHECK", 1)
        patched.setattr(
            "jaxws.data.sources.checked.inspect_image",
            lambda data: raise_undecodable() if data == first else inspect_image(data),
        )
        first = (folder / "train/cat/0.png").read_bytes()
        assert len(load(folder, tmp_path, on_corrupt="skip").train.labels) == 5
    assert_equal(load(folder, tmp_path, on_corrupt="skip"), whole)
    assert_equal(load(folder, tmp_path), whole)


def raise_undecodable():
    raise UndecodableImageError("it was called so")


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
