"""`load_dataset`: its fields, data that TFDS has prepared before, and what it refuses."""

import json
import pathlib
import re

import ml_collections
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxws.config import base_config
from jaxws.data import load_dataset
from jaxws.data.sources import read
from jaxws.data.sources.prepare import LocalBuilder, data_root, is_whole, prepare
from jaxws.data.statistics import channel_statistics


def load(data_dir, **changed):
    fields = base_config().data.to_dict() | dict(name="tiny", data_dir=str(data_dir)) | changed
    return load_dataset(ml_collections.ConfigDict(fields))


class Tiny(LocalBuilder, skip_registration=True):
    """A data set in which everything can be varied, prepared as TFDS would."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, channels=3, sizes=(4,), labels=(0, 1, 2), splits=("train", "test"), **kw):
        self.settings = (channels, sizes, labels, splits)
        super().__init__(**kw)

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, self.settings[0])),
            "label": tfds.features.ClassLabel(num_classes=3),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _shard_iterators_per_split(self, dl_manager):
        return {split: [lambda split=split: self.examples(split)] for split in self.settings[3]}

    def examples(self, split):
        channels, sizes, labels, _ = self.settings
        for i in range(9):
            size = sizes[i % len(sizes)] if isinstance(sizes, tuple) else sizes[split]
            label = labels[i % len(labels)]
            yield i, {"image": Image.fromarray(pixels(split, i, size, channels)), "label": label}


class NoLabel(Tiny, skip_registration=True):
    """Images only."""

    name = "tiny"

    def _info(self):
        image = tfds.features.Image(shape=(None, None, 3))
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict({"image": image})
        )

    def examples(self, split):
        for i in range(3):
            yield i, {"image": Image.fromarray(pixels(split, i, 4, 3))}


def pixels(split, i, size, channels):
    rng = np.random.default_rng((i, len(split)))
    shape = (size, size, 3) if channels == 3 else (size, size)
    return rng.integers(0, 256, shape, dtype=np.uint8)


def make(data_dir, builder=Tiny, **settings):
    return prepare(builder(data_dir=str(data_dir), **settings))


@pytest.mark.parametrize("channels", [1, 3])
def test_prepared_data_is_read_by_name(tmp_path, channels):
    make(tmp_path, channels=channels)
    dataset = load(tmp_path)
    assert (dataset.name, dataset.class_names) == ("tiny", ("0", "1", "2"))
    assert dataset.image_shape == (4, 4, channels)
    for split in ("train", "test"):
        expected = np.stack([pixels(split, i, 4, channels).ravel() for i in range(9)])
        np.testing.assert_array_equal(getattr(dataset, split).images, expected)
        assert getattr(dataset, split).labels.tolist() == [0, 1, 2] * 3


def test_validation_is_the_test_split_where_there_is_no_other(tmp_path):
    make(tmp_path, splits=("train", "validation"))
    expected = np.stack([pixels("validation", i, 4, 3).ravel() for i in range(9)])
    np.testing.assert_array_equal(load(tmp_path).test.images, expected)


def test_newest_version_unless_one_is_named(tmp_path):
    for version, size in (("1.9.0", 4), ("1.10.0", 5)):
        made = pathlib.Path(make(tmp_path, sizes=(size,)).data_dir)
        made.rename(made.with_name(version))
        info = made.with_name(version) / "dataset_info.json"
        info.write_text(info.read_text().replace('"1.0.0"', f'"{version}"'))
    assert load(tmp_path).image_shape == (5, 5, 3)
    assert load(tmp_path, name="tiny:1.9.0").image_shape == (4, 4, 3)


def test_configs(tmp_path):
    for name, size in (("small", 4), ("large", 6)):
        make(tmp_path, sizes=(size,), config=tfds.core.BuilderConfig(name=name))
        assert load(tmp_path, name=f"tiny/{name}").image_shape == (size, size, 3)
        if name == "small":
            assert load(tmp_path).image_shape == (4, 4, 3)
    with pytest.raises(ValueError, match=r"several configs \(large, small\).*name=tiny/large"):
        load(tmp_path)


def test_images_are_resized_if_asked(tmp_path):
    make(tmp_path, sizes=(4, 6))
    with pytest.raises(ValueError, match=r"differ in size \(4x4 and 6x6.*data\.image_size"):
        load(tmp_path)
    assert load(tmp_path, image_size=3).image_shape == (3, 3, 3)


def test_splits_of_different_shape(tmp_path):
    make(tmp_path, sizes={"train": 4, "test": 6})
    with pytest.raises(ValueError, match=r"\(4, 4, 3\) in 'train' but \(6, 6, 3\) in 'test'"):
        load(tmp_path)
    assert load(tmp_path, image_size=5).image_shape == (5, 5, 3)


def test_labels_outside_the_classes(tmp_path):
    make(tmp_path, labels=(0, -1, 2))
    with pytest.raises(ValueError, match=r"labels of split 'train'.*run from -1 to 2, expected 0"):
        load(tmp_path)


def test_data_without_labels(tmp_path):
    make(tmp_path, NoLabel)
    with pytest.raises(ValueError, match="expected an 8-bit image of 1 or 3 channels and a class"):
        load(tmp_path)


def test_data_without_a_test_split(tmp_path):
    make(tmp_path, splits=("train",))
    with pytest.raises(ValueError, match=r"has the splits \['train'\], expected"):
        load(tmp_path)


def test_data_too_large_for_the_device(tmp_path, monkeypatch):
    make(tmp_path)
    monkeypatch.setattr(read, "MAX_BYTES", 18 * 48 - 1)
    with pytest.raises(ValueError, match=r"18 images of 48 bytes.*data\.image_size"):
        load(tmp_path)
    monkeypatch.setattr(read, "MAX_BYTES", 18 * 48)
    assert load(tmp_path).image_shape == (4, 4, 3)


def test_data_prepared_as_tfrecord(tmp_path):
    make(tmp_path)
    path = tmp_path / "tiny/1.0.0/dataset_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fileFormat": "tfrecord"}))
    with pytest.raises(ValueError, match=r"prepared as tfrecord.*--file_format=array_record"):
        load(tmp_path)


def test_data_that_is_not_prepared(tmp_path):
    with pytest.raises(ValueError) as caught:
        load(tmp_path, name="cifar10")
    message = str(caught.value)
    assert str(tmp_path / "cifar10") in message
    assert "--config.data.path=FOLDER" in message
    assert f"python -m jaxws prepare cifar10 --data_dir={tmp_path}" in message
    assert "170 MB to download; 160 MB on disk" in message


def test_half_prepared_data_is_not_read(tmp_path):
    make(tmp_path)
    (tmp_path / "tiny/1.0.0/features.json").unlink()
    with pytest.raises(ValueError, match="has not been prepared"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("cifar01", "did you mean 'cifar10'"), ("tyny", "did you mean 'tiny'"), ("?!", "is '[?]!'")],
)
def test_unknown_names(tmp_path, name, hint):
    make(tmp_path)
    with pytest.raises(ValueError, match=hint):
        load(tmp_path, name=name)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(name=""), r"data\.name is ''"),
        (dict(name="folder"), r"needs a folder of images: set --config\.data\.path"),
        (dict(name="digits", path="x"), "comes with the package: leave out the path"),
        (dict(name="digits", image_size=0), r"data\.image_size is 0"),
        (dict(name="digits", image_size=2.5), r"data\.image_size is 2\.5"),
        (dict(name="digits", image_size=10**9), r"data\.image_size is 10+, expected .* 1 to 4096"),
        (dict(name="digits", on_corrupt="ignore"), "'ignore': expected one of 'error', 'skip'"),
    ],
)
def test_wrong_fields(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, **changed)


def test_a_missing_field_is_an_error():
    fields = base_config().data.to_dict() | dict(name="digits")
    del fields["data_dir"]
    with pytest.raises(AttributeError, match="data_dir"):
        load_dataset(ml_collections.ConfigDict(fields))


def test_digits_can_be_resized(tmp_path):
    assert load(tmp_path, name="digits", image_size=12).image_shape == (12, 12, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_are_exact(channels):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3000, 50, 40, channels), dtype=np.uint8)
    mean, std = channel_statistics(images)
    unit = images.reshape(-1, channels) / 255
    assert mean.dtype == std.dtype == np.float32
    np.testing.assert_allclose(mean, unit.mean(0), rtol=1e-7)
    np.testing.assert_allclose(std, unit.std(0), rtol=1e-6)


def test_standard_deviation_is_never_zero():
    images = np.full((5000, 3, 3, 2), 37, np.uint8)
    images[0, 0, 0, 1] = 38
    std = channel_statistics(images)[1]
    assert std[0] == 1 and 0 < std[1] < 1e-3


def test_default_data_dir(monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", "~/somewhere")
    assert data_root(None) == pathlib.Path.home() / "somewhere"
    assert data_root("~/other") == pathlib.Path.home() / "other"


def test_the_loser_of_a_race_reads_the_copy_of_the_winner(tmp_path):
    class Slow(Tiny, skip_registration=True):
        name = "tiny"

        def _shard_iterators_per_split(self, dl_manager):
            make(tmp_path)  # Another process gets there first.
            return super()._shard_iterators_per_split(dl_manager)

    assert len(make(tmp_path, Slow).as_data_source("train")) == 9
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == ["1.0.0"]


@pytest.mark.parametrize("kind", [OSError, RuntimeError])  # The latter is array_record's.
def test_a_full_disk_is_explained(tmp_path, kind):
    class Full(Tiny, skip_registration=True):
        def examples(self, split):
            raise kind("No space left on device")

    with pytest.raises(ValueError, match=re.escape("No space left on device); give a directory")):
        make(tmp_path, Full)
    assert not is_whole(tmp_path / "full/1.0.0")
