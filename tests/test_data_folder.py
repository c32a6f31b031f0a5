"""Folders of images: what is read, what is refused, and that no copy is ever stale."""

import io
import logging
import os
import re
import shutil

import ml_collections
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxws.config import base_config
from jaxws.data import load_dataset, read
from jaxws.data.folder import prepare_folder
from jaxws.data.images import decode_image, fit_image
from jaxws.data.progress import track


def noise(seed, size=(8, 6), mode="RGB"):
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], bands), dtype=np.uint8)
    return Image.frombytes(mode, size, pixels.tobytes())


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture
def folder(tmp_path):
    """Two classes with three training images and one test image each."""
    root = tmp_path / "pets"
    for number, name in enumerate(("cat", "dog")):
        for i in range(3):
            save(noise(10 * number + i), root / f"train/{name}/{i}.png")
        save(noise(10 * number + 5), root / f"test/{name}/0.png")
    return root


def load(path, tmp_path, **changed):
    fields = base_config().data.to_dict()
    fields |= dict(name="folder", path=str(path), data_dir=str(tmp_path / "tfds")) | changed
    return load_dataset(ml_collections.ConfigDict(fields))


def assert_equal(first, second):
    for split in ("train", "test"):
        for one, other in zip(getattr(first, split), getattr(second, split), strict=True):
            np.testing.assert_array_equal(one, other)


def truncate(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def test_pixels_labels_and_names(folder, tmp_path):
    dataset = load(folder, tmp_path)
    assert (dataset.name, dataset.class_names) == ("folder", ("cat", "dog"))
    assert dataset.image_shape == (6, 8, 3)
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.test.labels.tolist() == [0, 1]
    seeds = {"train": (0, 1, 2, 10, 11, 12), "test": (5, 15)}
    for split, numbers in seeds.items():
        expected = np.stack([np.asarray(noise(seed)).ravel() for seed in numbers])
        np.testing.assert_array_equal(getattr(dataset, split).images, expected)


def test_second_read_equals_the_first(folder, tmp_path):
    first = load(folder, tmp_path)
    (copy,) = (tmp_path / "tfds").glob("image_folder/*/1.0.0")
    written = {path: path.stat().st_mtime_ns for path in copy.iterdir()}
    assert_equal(load(folder, tmp_path), first)
    assert {path: path.stat().st_mtime_ns for path in copy.iterdir()} == written


def test_a_path_keeps_the_name_of_the_data_set(folder, tmp_path):
    assert load(folder, tmp_path, name="cifar10").name == "cifar10"


def test_tfds_reads_the_original_bytes(folder, tmp_path):
    save(noise(0), folder / "train/cat/0.jpg")
    builder = prepare_folder(
        str(folder), data_dir=str(tmp_path / "tfds"), image_size=None, on_corrupt="error"
    )
    assert isinstance(builder, tfds.core.DatasetBuilder)
    records = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
    assert len(records) == 7
    for record in records:
        assert record["image"] == (folder / record["file_name"].decode()).read_bytes()


@pytest.mark.parametrize("name", ["val", "validation"])
def test_validation_stands_in_for_test(folder, tmp_path, name):
    (folder / "test").rename(folder / name)
    assert load(folder, tmp_path).test.labels.tolist() == [0, 1]


def test_suffixes_in_capitals_and_files_that_are_no_images(folder, tmp_path):
    (folder / "train/cat/0.png").rename(folder / "train/cat/0.PNG")
    save(noise(1), folder / "train/cat/3.JpEg")
    for name in (".hidden.png", "notes.txt", "._0.png"):
        (folder / "train/cat" / name).write_text("no image")
    (folder / ".git").mkdir()
    assert len(load(folder, tmp_path).train.labels) == 7


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


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "LA", "1", "I;16"])
def test_every_mode_becomes_rgb(folder, tmp_path, mode):
    if mode == "I;16":
        gray = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1365
        image, expected = Image.fromarray(gray), np.repeat((gray >> 8)[:, :, None], 3, axis=2)
    else:
        image = noise(3).convert(mode) if mode in "P1" else noise(3, mode=mode)
        expected = np.asarray(image.convert("RGB"))
    path = folder / f"train/cat/0.{'jpg' if mode == 'CMYK' else 'png'}"
    (folder / "train/cat/0.png").unlink()
    save(image, path)
    if mode == "CMYK":
        expected = np.asarray(Image.open(path).convert("RGB"))
    dataset = load(folder, tmp_path)
    np.testing.assert_array_equal(dataset.train.images[0].reshape(6, 8, 3), expected)


def test_palette_with_transparency(folder, tmp_path):
    image = noise(3).convert("P")
    image.info["transparency"] = bytes(range(256))
    image.save(folder / "train/cat/0.png")
    found = load(folder, tmp_path).train.images[0].reshape(6, 8, 3)
    np.testing.assert_array_equal(found, image.convert("RGBA").convert("RGB"))


def test_resize_is_antialiased_and_central(folder, tmp_path):
    wide = noise(7, size=(40, 20))
    save(wide, folder / "train/cat/0.png")
    dataset = load(folder, tmp_path, image_size=5)
    assert dataset.image_shape == (5, 5, 3)
    expected = wide.resize((10, 5), Image.Resampling.BILINEAR).crop((2, 0, 7, 5))
    np.testing.assert_array_equal(dataset.train.images[0], np.asarray(expected).ravel())
    # Antialiased: a fine checkerboard becomes gray, where plain bilinear sampling keeps it.
    board = Image.fromarray((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8))
    inner = fit_image(board, 8)[1:-1, 1:-1]
    assert np.ptp(inner) <= 2 and abs(int(inner[0, 0, 0]) - 127) <= 2


@pytest.mark.parametrize("size", [(7, 5), (5, 7), (1, 9), (3, 1000), (2, 2)])
def test_fitted_images_are_square(size):
    assert fit_image(noise(0, size=size), 4).shape == (4, 4, 3)


def test_images_of_several_sizes(folder, tmp_path):
    save(noise(0, size=(5, 9)), folder / "train/dog/1.png")
    message = r"2 sizes: 8x6 \(7 images, train/cat/0.png\), 5x9 \(1 images, train/dog/1.png\)"
    with pytest.raises(ValueError, match=message + r".*--config\.data\.image_size"):
        load(folder, tmp_path)
    assert load(folder, tmp_path, image_size=4).image_shape == (4, 4, 3)
    assert load(folder, tmp_path, image_size=3).image_shape == (3, 3, 3)


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


def test_missing_folder_and_file_in_its_place(folder, tmp_path):
    with pytest.raises(ValueError, match=r"'.*nowhere' does not exist.*--config\.data\.path"):
        load(tmp_path / "nowhere", tmp_path)
    with pytest.raises(ValueError, match="is a file, expected train/CLASS"):
        load(folder / "train/cat/0.png", tmp_path)


@pytest.mark.parametrize("split", ["train", "test"])
def test_missing_split(folder, tmp_path, split):
    (folder / split).rename(folder / "other")
    with pytest.raises(ValueError, match=rf"has no folder '{split}' \(it has other, t"):
        load(folder, tmp_path)


def test_no_classes_and_no_images(folder, tmp_path):
    shutil.rmtree(folder / "train")
    (folder / "train").mkdir()
    with pytest.raises(ValueError, match="train' has no class folders"):
        load(folder, tmp_path)
    (folder / "train/cat").mkdir()
    (folder / "train/dog").mkdir()
    with pytest.raises(ValueError, match=r"2 class folder.*without images: train/cat, train/dog"):
        load(folder, tmp_path)


def test_classes_that_differ(folder, tmp_path):
    (folder / "test/dog").rename(folder / "test/wolf")
    with pytest.raises(ValueError, match="only in train: dog; only in test: wolf"):
        load(folder, tmp_path)


@pytest.mark.parametrize("name", ["train/cat/4.webp", "train/loose.png", "train/cat/more/1.png"])
def test_images_that_would_be_left_out_are_refused(folder, tmp_path, name):
    save(noise(0), folder / name)
    with pytest.raises(ValueError, match="1 entries that would be left out"):
        load(folder, tmp_path)


def test_broken_link(folder, tmp_path):
    (folder / "train/cat/4.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"cannot be listed .*broken links"):
        load(folder, tmp_path)


def test_classes_named_by_numbers_keep_their_order(folder, tmp_path):
    for split in ("train", "test"):
        (folder / split / "cat").rename(folder / split / "10")
        (folder / split / "dog").rename(folder / split / "9")
    dataset = load(folder, tmp_path)
    assert dataset.class_names == ("10", "9")
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_many_shards_give_the_same_arrays(folder, tmp_path, monkeypatch):
    first = load(folder, tmp_path / "one")
    monkeypatch.setattr("jaxws.data.folder._SHARD_BYTES", 100)
    assert_equal(load(folder, tmp_path / "many"), first)
    assert len(list((tmp_path / "many").glob("tfds/*/*/*/*train*array_record*"))) > 2


def test_an_interrupted_preparation_works_the_second_time(folder, tmp_path, monkeypatch):
    first = load(folder, tmp_path / "first")

    def interrupted(data, channels):
        raise KeyboardInterrupt

    save(noise(0, mode="L").convert("RGBA"), folder / "train/cat/0.png")
    with monkeypatch.context() as patched:
        patched.setattr("jaxws.data.folder.decode_image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load(folder, tmp_path)
    assert not list((tmp_path / "tfds").glob("image_folder/*/*"))
    again = load(folder, tmp_path)
    np.testing.assert_array_equal(again.train.images[1:], first.train.images[1:])


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


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "other"])
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


def test_progress_is_shown_on_a_terminal_only(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr("sys.stderr", stream)
        assert list(track(range(3), "Writing", total=3000, weight=1000)) == [0, 1, 2]
        assert ("Writing" in stream.getvalue()) == shown


def test_decode_to_grayscale():
    file = io.BytesIO()
    noise(0).save(file, "png")
    assert decode_image(file.getvalue(), 1).mode == "L"
