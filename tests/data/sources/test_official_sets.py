"""Builders of the official data sets, on small archives in the official layouts."""

import io
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxws.config import base_config
from jaxws.data import build_feed, load_dataset
from jaxws.data.sources.cifar import Cifar10, Cifar100
from jaxws.data.sources.imagenet import TRAIN_TAR, VALIDATION_TAR
from jaxws.data.sources.imagenet import Builder as ImageNet
from jaxws.data.sources.prepare import is_whole, prepare
from jaxws.data.sources.tiny_imagenet import Builder as TinyImageNet
from tests.support import official_archives as archives
from tests.support.damage import truncate
from tests.support.jpeg_set import encode, picture
from tests.support.official_sets import CLASSES, data_config

ONE, OTHER = CLASSES


def records(builder, split):
    return list(prepare(builder).as_data_source(split))


@pytest.mark.parametrize("write", [archives.cifar_binary, archives.cifar_python])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(tmp_path, name, write):
    classes = {"cifar10": [10], "cifar100": [20, 100]}[name]
    arrays = archives.cifar_arrays(classes)
    archive = write(tmp_path / "archive.tar.gz", arrays)
    make = {"cifar10": Cifar10, "cifar100": Cifar100}[name]
    builder = make(archive, data_dir=str(tmp_path / "tfds"))
    keys = ["label"] if name == "cifar10" else ["coarse_label", "label"]
    for split, (images, labels) in arrays.items():
        read = records(builder, split)
        assert sorted(record["id"] for record in read) == [
            f"{split}_{i:05d}".encode() for i in range(len(images))
        ]
        assert [record["id"] for record in read] != sorted(record["id"] for record in read)
        for record in read:
            i = int(record["id"][-5:])
            pixels = images[i].reshape(3, 32, 32).transpose(1, 2, 0)
            np.testing.assert_array_equal(record["image"], pixels)
            assert [record[key] for key in keys] == labels[i].tolist()
    assert builder.data_dir.endswith(f"{name}/3.0.2")
    dataset = load_dataset(data_config(name, tmp_path / "tfds"))
    names = {"cifar10": archives.CIFAR10_NAMES, "cifar100": archives.FINE_NAMES}[name]
    assert list(dataset.class_names) == names
    # Mean colours do not depend on the order: the images are all there, once.
    assert dataset.train.images.sum() == arrays["train"][0].sum(dtype=np.int64)
    counts = np.bincount(arrays["train"][1][:, -1], minlength=classes[-1])
    np.testing.assert_array_equal(np.bincount(dataset.train.labels, minlength=classes[-1]), counts)


def test_tiny_imagenet(tmp_path):
    archive = archives.tiny_imagenet(tmp_path / "tiny.zip")
    builder = TinyImageNet(archive, data_dir=str(tmp_path / "tfds"))
    train = records(builder, "train")
    classes = sorted(archives.WNIDS)
    for record in train:
        wnid, number = record["file_name"].decode().removesuffix(".JPEG").split("_")
        assert record["label"] == classes.index(wnid)
        seed = 100 * archives.WNIDS.index(wnid) + int(number)
        data = archives.noise(seed, mode="L" if number == "1" else "RGB")
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        np.testing.assert_array_equal(record["image"], expected)
    assert len({record["file_name"] for record in train}) == len(train) == 12
    labels = {r["file_name"].decode(): r["label"] for r in records(builder, "validation")}
    assert labels == {f"val_{c}.JPEG": classes.index(archives.WNIDS[-1 - c]) for c in range(3)}
    dataset = load_dataset(data_config("tiny_imagenet", tmp_path / "tfds"))
    assert dataset.image_shape == (64, 64, 3) and len(dataset.test.labels) == 3


def imagenet(tmp_path, extra=None, validation=()):
    images = {
        ONE: {f"{ONE}_{i}.JPEG": archives.noise(i, size=(40 + i, 30)) for i in range(3)},
        OTHER: {
            f"{OTHER}_0.JPEG": archives.noise(10, mode="L"),
            f"{OTHER}_1.JPEG": encode(picture(1, "CMYK")),
            f"{OTHER}_2.JPEG": encode(picture(2), "png"),
            **(extra or {}),
        },
    }
    directory = archives.imagenet(tmp_path / "manual", images, validation)
    return images, ImageNet(directory, data_dir=str(tmp_path / "tfds"))


def test_imagenet(tmp_path):
    # Part of the validation images, not the first ones: 3 is of class 230, 50000 of 358.
    validation = [
        (f"ILSVRC2012_val_{number:08d}.JPEG", archives.noise(number)) for number in (3, 50000)
    ]
    images, builder = imagenet(tmp_path, validation=validation)
    skip = {"image": tfds.decode.SkipDecoding()}
    prepared = prepare(builder)
    train = list(prepared.as_data_source("train", decoders=skip))
    stored = {record["file_name"].decode(): record for record in train}
    assert len(stored) == len(train) == 6
    for label, wnid in enumerate((ONE, OTHER)):
        for name, data in images[wnid].items():
            assert stored[name]["label"] == label
            converted = name in (f"{OTHER}_1.JPEG", f"{OTHER}_2.JPEG")
            assert (stored[name]["image"] != data) == converted
            with Image.open(io.BytesIO(stored[name]["image"])) as image:
                assert image.format == "JPEG" and image.mode in ("RGB", "L")
                original = Image.open(io.BytesIO(data)).convert("RGB")
                difference = np.subtract(image.convert("RGB"), original, dtype=np.float32)
                assert abs(difference).mean() < 4  # of 256: colours are stored at half the size
    labels = {r["file_name"]: r["label"] for r in prepared.as_data_source("validation")}
    official = tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt")
    names, order = prepared.info.features["label"], official.read_text().split()
    assert labels == {
        f"ILSVRC2012_val_{n:08d}.JPEG".encode(): names.str2int(order[n - 1]) for n in (3, 50000)
    }
    config = base_config()
    config.data, config.batch_size = data_config("imagenet2012", tmp_path / "tfds"), 3
    config.data.mean_std, config.data.crop_size = "imagenet", 16
    feed = build_feed(config)
    assert (feed.train_size, feed.test_size, len(feed.class_names)) == (6, 2, 1000)
    inputs = next(feed.train_inputs(0))
    assert inputs.image.shape == (3, 16, 16, 3) and set(np.asarray(inputs.label)) <= {0, 1}


def test_imagenet_without_validation_tar(tmp_path):
    _, builder = imagenet(tmp_path)
    assert list(prepare(builder).info.splits) == ["train"]


def cifar_with(change):
    def build(tmp_path):
        arrays = archives.cifar_arrays([10])
        change(arrays)
        path = archives.cifar_binary(tmp_path / "cifar-10-binary.tar.gz", arrays)
        return Cifar10(path, data_dir=str(tmp_path / "tfds"))

    return build


def label_out_of_range(arrays):
    arrays["test"][1][7] = 10


def empty_split(arrays):
    arrays["test"] = tuple(array[:0] for array in arrays["test"])


def truncated_cifar(tmp_path):
    builder = cifar_with(lambda arrays: None)(tmp_path)
    truncate(tmp_path / "cifar-10-binary.tar.gz")
    return builder


def python_pickle_that_runs_code(tmp_path):
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archives.add(archive, "cifar-10-batches-py/batches.meta", b"cos\nsystem\n(S'false'\ntR.")
    return Cifar10(path, data_dir=str(tmp_path / "tfds"))


def tiny_with(change):
    def build(tmp_path):
        archive = archives.tiny_imagenet(tmp_path / "tiny.zip", change=change)
        return TinyImageNet(archive, data_dir=str(tmp_path / "tfds"))

    return build


def unknown_class(files):
    files["tiny-imagenet-200/train/n99999999/images/a.JPEG"] = archives.noise(0)


def wrong_size(files):
    name = next(name for name in files if "/train/" in name)
    files[name] = archives.noise(0, size=(65, 64))


def no_image(files):
    files[next(name for name in files if "/train/" in name)] = b"not an image"


def truncated_tiny(tmp_path):
    archives.tiny_imagenet(tmp_path / "tiny.zip")
    truncate(tmp_path / "tiny.zip")
    return TinyImageNet(tmp_path / "tiny.zip", data_dir=str(tmp_path / "tfds"))


def corrupt_imagenet(tmp_path):
    bad = archives.noise(5)[:400]
    return imagenet(tmp_path, extra={f"{OTHER}_9.JPEG": bad})[1]


def truncated_imagenet(tmp_path):
    builder = imagenet(tmp_path)[1]
    truncate(tmp_path / "manual" / TRAIN_TAR)
    return builder


def unknown_validation_image(tmp_path):
    return imagenet(tmp_path, validation=[("ILSVRC2012_val_00050001.JPEG", archives.noise(0))])[1]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (cifar_with(label_out_of_range), r"record test_00007 in .*binary\.tar\.gz has label 10"),
        (cifar_with(empty_split), r"split 'test' of 'cifar10' would have no images"),
        (truncated_cifar, r"cifar-10-binary\.tar\.gz cannot be read to its end"),
        (python_pickle_that_runs_code, r"batches\.meta in .* is not allowed"),
        (tiny_with(unknown_class), r"n99999999/images/a\.JPEG in .* has the label 'n99999999'"),
        (tiny_with(wrong_size), r"_0\.JPEG in .* is no RGB or grayscale JPEG of 64x64"),
        (tiny_with(no_image), r"_0\.JPEG in .* cannot be read"),
        (truncated_tiny, r"tiny\.zip cannot be read as tiny-imagenet-200\.zip"),
        (corrupt_imagenet, rf"image {OTHER}_9\.JPEG \({OTHER}\) in .* cannot be decoded"),
        (truncated_imagenet, rf"truncated or no tar .*download {TRAIN_TAR} again"),
        (
            unknown_validation_image,
            rf"val_00050001\.JPEG in .*{VALIDATION_TAR} is not a val",
        ),
    ],
)
def test_bad_archives_are_named_and_nothing_is_prepared(tmp_path, build, message):
    with pytest.raises(ValueError, match=message) as caught:
        prepare(build(tmp_path))
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "tfds").glob("*/*") if is_whole(path)]
