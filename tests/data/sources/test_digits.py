"""The digits that come with the package: pixels, places, splits, and preparing them safely."""

import contextlib
import pathlib
import signal
import subprocess
import sys
import textwrap

import chex
import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxws.config import base_config
from jaxws.data import build_feed, load_dataset
from jaxws.data.sources.digits import Builder, DigitsConfig
from jaxws.data.sources.digits import digits_dataset_builder as digits
from jaxws.data.sources.prepare import prepare


def digits_config(data_dir=None, **fields):
    data = base_config().data
    data.name, data.data_dir = "digits", None if data_dir is None else str(data_dir)
    data.update(fields)
    return data


def assert_same(first, second):
    """Two data sets, to the bit."""
    chex.assert_trees_all_equal(vars(first), vars(second), strict=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture(scope="module")
def records(root):
    builder = prepare(Builder(data_dir=str(root)))
    return {
        split: list(builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()}))
        for split in ("train", "test")
    }


@pytest.fixture(scope="module")
def dataset(root):
    return load_dataset(digits_config(root))


def corners(images):
    """Row and column of the first ink in each image."""
    return [(np.argwhere(image.any(1))[0, 0], np.argwhere(image.any(0))[0, 0]) for image in images]


def test_counts_shape_and_labels(dataset, records):
    side = digits.CANVAS
    assert dataset.name == "digits"
    assert dataset.image_shape == (side, side, 1)
    assert dataset.class_names == tuple("0123456789")
    assert len(dataset.train.labels) == 1437 * digits.TRAIN_PLACEMENTS
    assert len(dataset.test.labels) == 360 * digits.TEST_PLACEMENTS
    labels = digits.load_digits()[1]
    for split in ("train", "test"):
        arrays = getattr(dataset, split)
        assert arrays.images.dtype == np.uint8 and arrays.labels.dtype == np.int32
        expected = [labels[record["digit"]] for record in records[split]]
        np.testing.assert_array_equal(arrays.labels, expected)
        assert np.bincount(arrays.labels, minlength=10).min() > 0.07 * len(arrays.labels)


def test_pixels_are_the_digit_once_inside_an_empty_canvas(dataset, records):
    originals = digits.load_digits()[0]
    side = digits.CANVAS
    for split in ("train", "test"):
        images = getattr(dataset, split).images.reshape(-1, side, side)
        for image, record in zip(images, records[split], strict=True):
            digit = originals[record["digit"]]
            assert image.sum() == digit.sum()
            windows = np.lib.stride_tricks.sliding_window_view(image, (8, 8))
            assert (windows == digit).all((2, 3)).sum() == 1


def test_digits_are_those_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.datasets")
    source = sklearn.load_digits()
    images, labels = digits.load_digits()
    np.testing.assert_array_equal(images, np.rint(source.images * 255 / 16))
    np.testing.assert_array_equal(labels, source.target)
    assert images.max() == 255 and images.min() == 0


def test_splits_share_no_digit_and_miss_none(records):
    train = {int(record["digit"]) for record in records["train"]}
    test = [int(record["digit"]) for record in records["test"]]
    assert not train & set(test)
    assert train | set(test) == set(range(1797))
    assert set(np.bincount(test)) == {0, digits.TEST_PLACEMENTS}


def test_places_of_a_digit_differ_and_cover_the_canvas_evenly(dataset):
    side = digits.CANVAS - 8 + 1
    places = np.array([digits._places(digit, 2, DigitsConfig()) for digit in range(1797)])
    assert (places[:, 0] != places[:, 1]).any(1).all()
    assert places.min() == 0 and places.max() == side - 1
    for axis in (0, 1):
        counts = np.bincount(places[:, :, axis].ravel(), minlength=side)
        expected = places[:, :, axis].size / side
        # Far beyond any chance for a sound draw: mean 16, standard deviation 5.7 at side 17.
        assert ((counts - expected) ** 2 / expected).sum() < 4 * side


def test_mean_and_std_are_those_of_the_training_pixels(dataset):
    pixels = dataset.train.images.astype(np.float64) / 255
    np.testing.assert_allclose(dataset.mean, [pixels.mean()], rtol=1e-6)
    np.testing.assert_allclose(dataset.std, [pixels.std()], rtol=1e-6)


def test_two_preparations_are_equal(dataset, tmp_path):
    assert_same(load_dataset(digits_config(tmp_path)), dataset)


@pytest.mark.parametrize("fields", [{}, {"image_size": 17}, {"split": "tuning"}])
def test_without_a_directory_they_are_the_same(root, records, fields):
    """In memory or as TFDS has them: a run may go on either way, with the same bits."""
    config, feeds = base_config(), []
    for where in (None, root):
        config.data = digits_config(where, **fields)
        feeds.append(build_feed(config))
    assert_same(*(feed.dataset for feed in feeds))
    assert feeds[0].fingerprint() == feeds[1].fingerprint()


def test_images_that_would_not_fit_are_not_made():
    with pytest.raises(ValueError, match="'digits' has 2874 images of 4000000 bytes"):
        load_dataset(digits_config(image_size=2000))


def test_without_a_directory_nothing_is_written_and_no_home_is_needed(tmp_path, monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(pathlib.Path, "home", home)
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "tfds"))
    assert load_dataset(digits_config()).image_shape == (24, 24, 1)
    assert not list(tmp_path.iterdir())


def test_without_a_home_a_directory_is_asked_for(monkeypatch):
    def expanduser(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(pathlib.Path, "expanduser", expanduser)
    with pytest.raises(ValueError, match=r"no home directory.*: set --config\.data\.data_dir=DIR"):
        load_dataset(digits_config(name="cifar10"))


def test_a_changed_constant_is_another_directory(tmp_path):
    small = prepare(Builder(data_dir=str(tmp_path), config=DigitsConfig(canvas=12)))
    other = prepare(
        Builder(data_dir=str(tmp_path), config=DigitsConfig(canvas=12, train_placements=2))
    )
    assert small.data_dir != other.data_dir
    assert small.info.features["image"].shape == (12, 12, 1)
    assert len(other.as_data_source("train")) == 2 * len(small.as_data_source("train"))


def test_is_a_tfds_data_set_by_name(records, root):
    assert tfds.builder("digits", data_dir=str(root)).is_prepared()
    assert len(tfds.data_source("digits", split="train", data_dir=str(root))) == 1437


@pytest.mark.parametrize(
    "field", [dict(canvas=7), dict(train_fraction=1), dict(canvas=8, test_placements=2)]
)
def test_impossible_constants_are_refused(field):
    with pytest.raises(ValueError, match="expected"):
        DigitsConfig(**field)


def test_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"cannot prepare .*file.*--config\.data\.data_dir"):
        load_dataset(digits_config(tmp_path / "file" / "tfds"))


def test_an_interrupted_preparation_works_the_second_time(tmp_path, monkeypatch, dataset):
    def interrupted(digit, placements, config):
        if digit % 100 == 7:
            raise KeyboardInterrupt
        return places(digit, placements, config)

    places = digits._places
    monkeypatch.setattr(digits, "_places", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_dataset(digits_config(tmp_path))
    assert not list(tmp_path.glob("digits/*/1.0.0"))
    monkeypatch.undo()
    assert_same(load_dataset(digits_config(tmp_path)), dataset)


def test_a_part_of_a_copy_is_not_taken_for_whole(tmp_path, dataset):
    directory = pathlib.Path(Builder(data_dir=str(tmp_path)).data_dir)
    directory.mkdir(parents=True)
    (directory / "digits-train.array_record-00000-of-00001").write_bytes(b"half")
    assert_same(load_dataset(digits_config(tmp_path)), dataset)
    assert not list(directory.parent.glob("incomplete*"))


LOAD = """
    import importlib.machinery, sys, time
    attempts = []
    class Installed:  # A TensorFlow that is there to be found, and notes who imports it.
        def find_spec(name, path=None, target=None):
            if name == "tensorflow":
                return importlib.machinery.ModuleSpec(name, Installed)
        def create_module(spec):
            attempts.append(spec.name)
        def exec_module(module):
            raise ImportError("tensorflow")
    sys.meta_path.insert(0, Installed)
    from jaxws.config import base_config
    from jaxws.data import load_dataset
    data = base_config().data
    data.name, data.data_dir = "digits", sys.argv[1]
"""


@contextlib.contextmanager
def running(data_dir, program):
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(LOAD + program), str(data_dir)]
    repository = pathlib.Path(__file__).parents[3]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=repository
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def expect(process, word):
    line = process.stdout.readline()
    assert line == f"{word}\n", line + process.communicate(timeout=60)[1]


def finish(process):
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return output.split()


def test_processes_preparing_at_once_without_tensorflow(tmp_path):
    program = """
    print("ready", flush=True)
    import pathlib
    while not pathlib.Path(sys.argv[1], "go").exists():
        time.sleep(0.001)
    digits = load_dataset(data)
    print(int(digits.train.images.sum()))
    print(attempts)
    """
    with running(tmp_path, program) as one, running(tmp_path, program) as other:
        for process in (one, other):
            expect(process, "ready")
        (tmp_path / "go").touch()
        first, second = finish(one), finish(other)
    assert first == second == [first[0], "[]"]
    assert len(list(tmp_path.glob("digits/*/1.0.0"))) == 1
    assert not list(tmp_path.glob("digits/*/incomplete*"))


def test_a_killed_preparation_works_the_second_time(tmp_path, dataset):
    program = """
    from jaxws.data.sources.digits import digits_dataset_builder as digits
    places = digits._places
    def stop_at_one_digit(digit, *arguments):
        if digit == 700:
            print("writing", flush=True)
            time.sleep(60)
        return places(digit, *arguments)
    digits._places = stop_at_one_digit
    load_dataset(data)
    """
    with running(tmp_path, program) as process:
        expect(process, "writing")
        process.send_signal(signal.SIGKILL)
    assert list(tmp_path.glob("digits/*/incomplete*"))
    assert_same(load_dataset(digits_config(tmp_path)), dataset)
