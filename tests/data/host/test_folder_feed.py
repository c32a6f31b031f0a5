"""Folders, and data sets that do not fit in memory, that are decoded as they are needed."""

import logging

import numpy as np
import pytest

from jaxws.config import base_config
from jaxws.data import build, build_feed
from jaxws.data.device.feed import DeviceFeed
from jaxws.data.host.feed import HostFeed
from tests.support.image_folder import make_folder, noise, save


@pytest.fixture
def config(tmp_path):
    make_folder(tmp_path / "pets")
    config = base_config()
    config.batch_size = config.eval_batch_size = 2
    with config.unlocked():
        config.data.update(path=str(tmp_path / "pets"), data_dir=str(tmp_path / "tfds"))
    config.data.threads = 1
    return config


def batches(feed):
    """Images and labels of an epoch, and of an evaluation."""
    train, test = feed.train_inputs(0), feed.eval_inputs()
    taken = [next(train) for _ in range(feed.steps_per_epoch)], list(test)
    train.close()
    return [
        (
            np.concatenate([np.asarray(each.image) for each in inputs]),
            np.concatenate([np.asarray(each.label) for each in inputs]),
        )
        for inputs in taken
    ]


def test_images_of_several_sizes_and_modes(config, tmp_path, caplog):
    wide = noise(3, size=(90, 60))
    save(wide.convert("L"), tmp_path / "pets/train/cat/0.png")
    save(wide.convert("CMYK"), tmp_path / "pets/train/cat/3.jpg")
    save(wide.convert("RGBA"), tmp_path / "pets/train/dog/0.png")
    save(wide.convert("P"), tmp_path / "pets/test/dog/0.png")
    config.data.crop_size = 14
    with caplog.at_level(logging.WARNING):
        feed = build_feed(config)
    (record,) = caplog.records
    assert "2 sizes, such as 8x6 (5 images, train/cat/1.png) and 90x60" in record.getMessage()
    assert "here 14 pixels" in record.getMessage()
    assert isinstance(feed, HostFeed)
    assert (feed.image_shape, feed.train_size, feed.test_size) == ((14, 14, 3), 7, 2)
    (images, labels), (seen, wanted) = batches(feed)
    assert images.shape == (8, 14, 14, 3) and sorted(labels) == [-1, 0, 0, 0, 0, 1, 1, 1]
    assert wanted.tolist() == [0, 1] and np.ptp(seen[1]) > 0


def test_one_size_that_fits_stays_on_the_device(config):
    assert isinstance(build_feed(config), DeviceFeed)


@pytest.mark.parametrize("image_size", [None, 7])
def test_what_does_not_fit_in_memory_is_decoded_as_needed(config, monkeypatch, caplog, image_size):
    config.data.image_size = image_size
    monkeypatch.setattr(build, "MAX_BYTES", 8 * 8 * 6 * 3 - 1)
    with caplog.at_level(logging.WARNING):
        feed = build_feed(config)
    (record,) = caplog.records
    assert "memory" in record.getMessage() and isinstance(feed, HostFeed)
    assert feed.image_shape == (image_size or 224, image_size or 224, 3)


def test_a_size_that_was_not_looked_at(config, tmp_path, monkeypatch, caplog):
    """As in a data set of TFDS that does not say how large its images are."""
    save(noise(0, size=(5, 9)), tmp_path / "pets/train/dog/1.png")
    for module in ("jaxws.data.build", "jaxws.data.device.dataset"):
        monkeypatch.setattr(f"{module}.folder_sizes", lambda builder: [])
    monkeypatch.setattr(build, "_LOOK_AT", 1)
    with caplog.at_level(logging.WARNING):
        assert isinstance(build_feed(config), HostFeed)
    assert "differ in size (8x6 and 5x9 pixels)" in caplog.text


def test_digits_of_a_size_that_does_not_fit(config):
    with config.unlocked():
        config.data.update(name="digits", path=None, data_dir=None, image_size=4096)
    with pytest.raises(ValueError, match=r"2874 images .* 44\.9 GiB, expected 8 GiB or less"):
        build_feed(config)
