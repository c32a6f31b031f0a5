"""Folders of images: what is read, and which layouts are refused."""

import io
import logging
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxws.data.sources.folder import prepare_folder
from jaxws.data.sources.images import decode_image, fit_image
from tests.support.image_folder import load, make_folder, noise, save


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "pets")


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


def test_a_path_keeps_the_name_of_the_data_set(folder, tmp_path):
    assert load(folder, tmp_path, name="cifar10").name == "cifar10"


def test_tfds_reads_the_original_bytes(folder, tmp_path):
    save(noise(0), folder / "train/cat/0.jpg")
    builder = prepare_folder(str(folder), data_dir=str(tmp_path / "tfds"), on_corrupt="error")
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


def test_images_of_several_sizes_are_no_array(folder, tmp_path):
    save(noise(0, size=(5, 9)), folder / "train/dog/1.png")
    message = r"2 sizes: 8x6 \(7 images, train/cat/0.png\), 5x9 \(1 images, train/dog/1.png\)"
    with pytest.raises(ValueError, match=message + r".*--config\.data\.image_size"):
        load(folder, tmp_path)
    assert load(folder, tmp_path, image_size=4).image_shape == (4, 4, 3)
    assert load(folder, tmp_path, image_size=3).image_shape == (3, 3, 3)


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


def test_a_link_to_nothing_is_an_image_or_a_class_that_is_lost(folder, tmp_path):
    link = folder / "train/cat/4.png"
    link.symlink_to(tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"train/cat/4.png \(a link to nothing"):
        load(folder, tmp_path)
    assert len(load(folder, tmp_path, on_corrupt="skip").train.labels) == 6
    for split in ("train", "test"):
        (folder / split / "fox").symlink_to(tmp_path / "gone")
    with pytest.raises(ValueError, match="1 entries that would be left out: fox"):
        load(folder, tmp_path)


def test_hidden_folders_of_images_are_named(folder, tmp_path, caplog):
    (folder / "train/.git").mkdir()
    save(noise(0), folder / "train/.net/0.png")
    with caplog.at_level(logging.WARNING):
        assert load(folder, tmp_path).class_names == ("cat", "dog")
    (record,) = caplog.records
    assert record.getMessage().endswith("/train': .net")


def test_one_class_alone_teaches_nothing(folder, tmp_path):
    for split in ("train", "test"):
        shutil.rmtree(folder / split / "dog")
    with pytest.raises(ValueError, match=r"has one class, cat, in which every answer is right"):
        load(folder, tmp_path)


def test_classes_named_by_numbers_keep_their_order(folder, tmp_path):
    for split in ("train", "test"):
        (folder / split / "cat").rename(folder / split / "10")
        (folder / split / "dog").rename(folder / split / "9")
    dataset = load(folder, tmp_path)
    assert dataset.class_names == ("10", "9")
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_decode_to_grayscale():
    file = io.BytesIO()
    noise(0).save(file, "png")
    assert decode_image(file.getvalue(), 1).mode == "L"
