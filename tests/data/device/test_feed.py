"""Feeds: which one a data set gets, their batches, and a run that resumes on one."""

import itertools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxws.config import base_config
from jaxws.data import (
    Dataset,
    DeviceFeed,
    HostFeed,
    HostOptions,
    Split,
    build_feed,
    epoch_order,
    evaluation_batch,
    evaluation_order,
    training_batch,
)
from jaxws.data.host.batches import Cropper, training_batches
from jaxws.data.sources.records import Records
from jaxws.data.splits import SplitRows, choose_rows
from jaxws.data.statistics import IMAGENET_MEAN, IMAGENET_STD
from jaxws.training.loop import train
from jaxws.training.run import prepare
from tests.support.jpeg_set import encode, make_set, picture

SIZE, BATCH = 13, 4


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")
    make_set(root, train=SIZE, validation=5)
    return root


@pytest.fixture
def config(tfds_dir):
    config = base_config()
    config.epochs, config.batch_size, config.eval_batch_size = 2, BATCH, 3
    config.log_every = 1
    config.model.depth, config.model.width, config.model.connectivity = 8, 2, "conv"
    config.optimizer.drop_epochs = (1,)
    config.data.name, config.data.data_dir = "imagenet2012", str(tfds_dir)
    config.data.crop_size, config.data.mean_std = 8, "imagenet"
    return config


@pytest.fixture
def dataset():
    rng = np.random.default_rng(0)
    train, test = (
        Split(rng.integers(0, 256, (n, 4 * 5 * 3), np.uint8), np.arange(n, dtype=np.int32))
        for n in (SIZE, 5)
    )
    mean = np.array([0.4, 0.5, 0.6], np.float32)
    chosen = SplitRows(np.arange(SIZE), None)
    return Dataset("noise", train, test, (4, 5, 3), tuple("abc"), mean, mean / 2, chosen)


@pytest.mark.parametrize("first_step", [0, 6])
def test_device_feed_is_order_gather_and_augmentation(dataset, first_step):
    """The definition of a run's batches, which must not change."""
    arguments = {"pad": 1, "flip": True, "dtype": jnp.bfloat16}
    feed = DeviceFeed(dataset, seed=7, batch_size=BATCH, eval_batch_size=3, **arguments)
    assert (feed.steps_per_epoch, feed.image_shape) == (4, (4, 5, 3))
    images = {"image_shape": (4, 5, 3), "mean": dataset.mean, "std": dataset.std}
    train_batch = jax.jit(feed.batching.train_batch)
    inputs = itertools.islice(feed.train_inputs(first_step), 4)
    for step, each in enumerate(inputs, start=first_step):
        order = epoch_order(7, step // 4, SIZE, BATCH)
        key = jax.random.fold_in(jax.random.key(7), step)
        split = Split(*map(jnp.asarray, dataset.train))
        expected = training_batch(split, order[step % 4], key, ragged=True, **images, **arguments)
        assert_same(train_batch(each, jnp.array(step)), expected)


def test_device_feed_evaluates_every_image_in_order(dataset):
    feed = DeviceFeed(
        dataset, seed=0, batch_size=BATCH, eval_batch_size=3, pad=1, flip=True, dtype=jnp.float32
    )
    images = {"image_shape": (4, 5, 3), "mean": dataset.mean, "std": dataset.std}
    split = Split(*map(jnp.asarray, dataset.test))
    for each, indices in zip(feed.eval_inputs(), evaluation_order(5, 3), strict=True):
        expected = evaluation_batch(split, indices, ragged=True, dtype=jnp.float32, **images)
        assert_same(feed.batching.eval_batch(each), expected)


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_host_feed_flips_and_normalises_the_crops(config, tfds_dir):
    config.data.n_reps, config.batch_size = 2, 2 * BATCH
    feed = build_feed(config)
    assert isinstance(feed, HostFeed)
    assert (feed.steps_per_epoch, feed.image_shape, feed.test_size) == (4, (8, 8, 3), 5)
    records = Records(feed._builder, "train")
    crops = training_batches(records, Cropper(8, 3, "pil"), seed=0, batch_size=BATCH, n_reps=2)
    train_batch, flips = jax.jit(feed.batching.train_batch), []
    for step, inputs in zip(range(2, 9), feed.train_inputs(2), strict=False):
        assert_same((inputs.image, inputs.label), tuple(crops[step]))
        batch = train_batch(inputs, jnp.array(step))
        real = crops[step].label >= 0
        np.testing.assert_array_equal(batch.mask, real)
        np.testing.assert_array_equal(batch.label, np.maximum(crops[step].label, 0))
        assert not np.asarray(batch.image)[~real].any()
        plain = (crops[step].image / 255.0 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
        for image, view in zip(np.asarray(batch.image)[real], plain[real], strict=True):
            mirrored = abs(image - view[:, ::-1]).max() < 1e-5
            assert mirrored or abs(image - view).max() < 1e-5
            flips.append(mirrored)
        again = train_batch(inputs, jnp.array(step))
        assert_same(batch, again)
    assert 10 < sum(flips) < len(flips) - 10


def test_host_feed_draws_follow_the_seed(config):
    config.batch_size = SIZE
    first = {}
    for seed in (0, 1):
        config.seed = seed
        feed = build_feed(config)
        inputs = [next(feed.train_inputs(0)) for _ in range(2)]
        assert_same(inputs[0].image, inputs[1].image)
        first[seed] = np.asarray(inputs[0].image)
    assert (first[0] != first[1]).any()


def test_which_feed_a_data_set_gets(config, tfds_dir, monkeypatch):
    assert isinstance(build_feed(config), HostFeed)
    config.data.image_size = 8
    feed = build_feed(config)
    assert isinstance(feed, DeviceFeed)
    assert feed.image_shape == (8, 8, 3)
    config.data.image_size, config.data.name, config.data.mean_std = None, "digits", "train"
    assert isinstance(build_feed(config), DeviceFeed)
    monkeypatch.setattr("jaxws.data.build.MAX_BYTES", 1000)
    assert isinstance(build_feed(config), HostFeed)


def test_pictures_of_one_size_go_to_the_device(config, tmp_path):
    files = [encode(picture(i).resize((9, 8))) for i in range(6)]
    make_set(tmp_path, train=files, validation=files[:4])
    config.data.data_dir, config.data.crop_size = str(tmp_path), None
    feed = build_feed(config)
    assert isinstance(feed, DeviceFeed)
    assert feed.image_shape == (8, 9, 3)


def test_other_data_sets_are_normalised_by_a_sample_of_their_own(tfds_dir):
    builder = make_set(tfds_dir, train=SIZE, validation=5)
    builder.name = "others"
    arguments = {"seed": 0, "batch_size": 4, "eval_batch_size": 4, "flip": False}
    feed = HostFeed("others", builder, dtype=jnp.float32, crop_size=16, **arguments)
    cropper, records = Cropper(16, 3, "pil"), Records(builder, "train")
    views = np.concatenate([cropper.centre(records[i]).image for i in range(SIZE)]) / 255
    np.testing.assert_allclose(feed.mean, views.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(feed.std, views.std(axis=(0, 1, 2)), rtol=1e-5)


def test_host_options_do_not_change_a_run_but_the_decoder_is_checked(config, monkeypatch):
    feed = build_feed(config)
    assert {"train_images", "records_crc32", "train_rows_crc32"} <= feed.fingerprint().keys()
    config.data.threads, config.data.prefetch = 3, 7
    assert build_feed(config).fingerprint() == feed.fingerprint()
    config.data.decoder = "simplejpeg"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="not installed"):
        build_feed(config)
    assert HostOptions() == ("pil", None, None)


def test_images_held_out_for_tuning_are_tested_on(config):
    config.data.split = "tuning"
    feed = build_feed(config)
    assert (feed.train_size, feed.test_size, feed.test_kind) == (12, 1, "validation")
    (held_out,) = choose_rows(np.zeros(SIZE), split="tuning").validation
    records = Records(feed._builder, "train")
    (inputs,) = feed.eval_inputs()
    np.testing.assert_array_equal(
        inputs.image[0], Cropper(8, 3, "pil").centre(records[held_out]).image[0]
    )
    config.data.split = "final"
    assert build_feed(config).fingerprint() != feed.fingerprint()


def test_batches_larger_than_the_data_are_refused(config):
    config.batch_size = SIZE + 1
    with pytest.raises(ValueError, match="larger than the data"):
        build_feed(config)


class Linear(nn.Module):
    """As small as a network can be that a run trains."""

    @nn.compact
    def __call__(self, x, train=False, mask=None):
        x = nn.BatchNorm(use_running_average=not train)(x.mean(axis=(1, 2)), mask=_column(mask))
        return nn.Dense(4)(x)


def _column(mask):
    return None if mask is None else mask[:, None]


def prepare_linear(config, workdir):
    return prepare(config, workdir)._replace(model=Linear())


def test_a_run_on_imagenet_resumes_mid_epoch_bit_for_bit(config, tmp_path):
    """Other threads and prefetching after the stop; every loss tells the batch it was taken on."""
    whole = prepare_linear(config, tmp_path / "whole")
    record = train(whole)
    assert 0 <= record["data_wait"] <= 1
    config.max_steps = 6  # of 8, in the second epoch
    train(prepare_linear(config, tmp_path / "parts"))
    config.max_steps, config.data.threads, config.data.prefetch = None, 1, 1
    parts = prepare_linear(config, tmp_path / "parts")
    assert parts.workdir.resumed
    train(parts)
    losses = [
        [(r["step"], r["train_loss"]) for r in run.workdir.records() if r["kind"] == "train"]
        for run in (whole, parts)
    ]
    assert [step for step, _ in losses[0]] == list(range(1, 9))
    assert losses[0] == losses[1]
    lines = (parts.workdir.path / "metrics.jsonl").read_text().splitlines()
    waits = [json.loads(line)["data_wait"] for line in lines]
    assert all(0 <= wait <= 1 for wait in waits if wait is not None)  # null: it compiles
