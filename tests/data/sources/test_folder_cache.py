"""What is kept of a folder of images: it is used again, and never stale."""

import os
import pickle
import time
import zipfile

import numpy as np
import pytest

from jaxws.data.sources import read
from jaxws.data.sources.images import decode_image
from jaxws.system.atomic import replacing
from tests.support.image_folder import assert_equal, load, make_folder, noise, save


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "pets")


def test_second_read_equals_the_first(folder, tmp_path):
    first = load(folder, tmp_path)
    (copy,) = (tmp_path / "tfds").glob("image_folder/*/1.0.0")
    written = {path: path.stat().st_mtime_ns for path in copy.iterdir()}
    assert_equal(load(folder, tmp_path), first)
    assert {path: path.stat().st_mtime_ns for path in copy.iterdir()} == written


@pytest.mark.parametrize("change", ["add", "remove", "replace", "touch", "rename"])
def test_a_changed_folder_is_prepared_anew(folder, tmp_path, change):
    load(folder, tmp_path)
    first = folder / "train/cat/0.png"
    expected = [noise(seed) for seed in (0, 1, 2, 10, 11, 12)]
    if change == "add":
        save(noise(99), folder / "train/cat/3.png")
        expected.insert(3, noise(99))
    elif change == "remove":
        first.unlink()
        del expected[0]
    elif change == "replace":
        save(noise(99), first)
        expected[0] = noise(99)
    elif change == "touch":
        os.utime(first, (1, 1))
    elif change == "rename":
        first.rename(folder / "train/cat/9.png")
        expected[:3] = [*expected[1:3], expected[0]]
    dataset = load(folder, tmp_path)
    pixels = np.stack([np.asarray(image).ravel() for image in expected])
    np.testing.assert_array_equal(dataset.train.images, pixels)
    assert len(list((tmp_path / "tfds/image_folder").iterdir())) == 2


def test_many_shards_give_the_same_arrays(folder, tmp_path, monkeypatch):
    first = load(folder, tmp_path / "one")
    monkeypatch.setattr("jaxws.data.sources.folder._SHARD_BYTES", 100)
    assert_equal(load(folder, tmp_path / "many"), first)
    assert len(list((tmp_path / "many").glob("tfds/*/*/*/*train*array_record*"))) > 2


@pytest.fixture
def cached(folder, tmp_path, monkeypatch):
    """A data set that left a decoded copy, the copy, and a count of the images decoded since."""
    monkeypatch.setattr(read, "CACHE_FROM_BYTES", 0)
    first = load(folder, tmp_path)
    decoded = []

    def counting(data, channels):
        decoded.append(data)
        return decode_image(data, channels)

    monkeypatch.setattr(read, "decode_image", counting)
    (copy,) = (tmp_path / "tfds").glob("image_folder/*/*/decoded*train*")
    return first, copy, decoded


def test_decoded_copy_is_used(folder, tmp_path, cached):
    first, copy, decoded = cached
    assert_equal(load(folder, tmp_path), first)
    assert not decoded
    assert load(folder, tmp_path, image_size=3).image_shape == (3, 3, 3)
    assert len(decoded) == 8
    assert not list(copy.parent.glob("incomplete*"))


@pytest.mark.parametrize(
    "damage", ["truncated", "flipped", "empty", "other", "objects", "claims", "no zip", "one array"]
)
def test_damaged_decoded_copy_is_made_anew(folder, tmp_path, cached, damage):
    first, copy, decoded = cached
    data = bytearray(copy.read_bytes())
    if damage == "truncated":
        copy.write_bytes(data[:-400])
    elif damage == "flipped":
        data[500] ^= 1
        copy.write_bytes(data)
    elif damage == "empty":
        copy.write_bytes(b"")
    elif damage == "objects":
        np.savez(copy, images=np.array([print], object), labels=np.zeros(6, np.int64))
    elif damage == "claims":
        with zipfile.ZipFile(copy, "w") as archive, archive.open("images.npy", "w") as file:
            facts = {"descr": "|u1", "fortran_order": False, "shape": (2**50, 6, 8, 3)}
            np.lib.format.write_array_header_1_0(file, facts)
    elif damage == "no zip":
        copy.write_bytes(pickle.dumps(print))
    elif damage == "one array":
        with copy.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        np.savez(copy, images=np.zeros((2, 6, 8, 3), np.uint8), labels=np.zeros(2, np.int64))
    assert_equal(load(folder, tmp_path), first)
    assert len(decoded) == 6
    assert_equal(load(folder, tmp_path), first)
    assert len(decoded) == 6


def test_a_decoded_copy_that_cannot_be_kept_is_no_error(folder, tmp_path, monkeypatch):
    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(read, "CACHE_FROM_BYTES", 0)
    monkeypatch.setattr(read.np, "savez", full)
    assert len(load(folder, tmp_path).train.labels) == 6
    assert not list((tmp_path / "tfds").glob("image_folder/*/*/*.npz"))


def test_copies_that_a_killed_process_left_are_removed(folder, tmp_path, cached):
    _, copy, _ = cached
    copy.unlink()
    writers = [replacing(copy) for _ in range(2)]
    old, new = (writer.__enter__() for writer in writers)
    os.utime(old, (time.time() - 7200,) * 2)
    load(folder, tmp_path)
    assert copy.exists() and new.exists() and not old.exists()
