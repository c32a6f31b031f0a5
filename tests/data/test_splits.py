"""Which images are trained on and held out: laws over sizes, and what a run records of them."""

import json

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxws.config import base_config
from jaxws.data import choose_rows, load_dataset
from jaxws.data.splits import SplitRows, rows_fingerprint, stratified_order
from jaxws.training.run import prepare

some_labels = st.one_of(
    st.lists(st.integers(0, 5), min_size=1, max_size=300).map(np.array),
    st.builds(lambda c, n: np.tile(np.arange(c), n), st.integers(1, 12), st.integers(1, 30)),
)
seeds = st.integers(0, 2**32)


def assert_stratified(part, labels):
    """Some share explains the count of every class up to less than one image."""
    counts = np.bincount(labels)
    taken = np.bincount(part, minlength=len(counts))[counts > 0]
    counts = counts[counts > 0]
    assert ((taken - 1) / counts).max() < ((taken + 1) / counts).min() + 1e-9
    for size in np.unique(counts):
        alike = taken[counts == size]
        assert alike.max() - alike.min() <= 1


@given(some_labels, seeds, st.data())
def test_every_stretch_of_the_order_is_stratified(labels, seed, data):
    order = stratified_order(labels, seed)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(len(labels)))
    np.testing.assert_array_equal(order, stratified_order(labels.astype(np.int32), seed))
    begin, end = sorted(data.draw(st.tuples(*[st.integers(0, len(labels))] * 2)))
    assert_stratified(labels[order[begin:end]], labels)


@given(some_labels.filter(lambda labels: len(labels) >= 10), seeds, st.data())
def test_tuning_holds_out_a_tenth_and_nothing_is_in_both(labels, seed, data):
    size = len(labels)
    train, validation = choose_rows(labels, split="tuning", seed=seed)
    assert len(validation) == size // 10
    np.testing.assert_array_equal(np.sort([*train, *validation]), np.arange(size))
    assert_stratified(labels[validation], labels)
    assert (np.diff(train) > 0).all() and (np.diff(validation) > 0).all()
    # Fractions: of the right size, nested, with the same images held out.
    small, large = sorted(data.draw(st.tuples(*[st.floats(0.2, 1)] * 2)))
    parts = [
        choose_rows(labels, split="tuning", train_fraction=fraction, seed=seed)
        for fraction in (small, large)
    ]
    for part, fraction in zip(parts, (small, large), strict=True):
        np.testing.assert_array_equal(part.validation, validation)
        assert len(part.train) == round(fraction * len(train))
        assert_stratified(labels[part.train], labels)
    assert set(parts[0].train) <= set(parts[1].train) <= set(train)


@given(some_labels, seeds)
def test_final_runs_train_on_everything(labels, seed):
    chosen = choose_rows(labels, split="final", seed=seed)
    assert chosen.validation is None
    np.testing.assert_array_equal(chosen.train, np.arange(len(labels)))


def test_sizes_of_the_paper():
    for size, expected in ((50_000, 5_000), (100_000, 10_000), (1_281_167, 10_000)):
        train, validation = choose_rows(np.zeros(size, int), split="tuning")
        assert (len(train), len(validation)) == (size - expected, expected)


def test_another_seed_holds_out_other_images_and_the_choice_never_changes():
    labels = np.arange(1000) % 10
    chosen = {seed: choose_rows(labels, split="tuning", seed=seed).validation for seed in range(20)}
    assert len({rows.tobytes() for rows in chosen.values()}) == 20
    # Each image is held out in a tenth of the choices: chi-square with 19 degrees of freedom on
    # how often images of 20 groups are; 43.8 is its 99.9 % point. (Groups share classes evenly.)
    counts = np.bincount(np.concatenate(list(chosen.values())) // 50, minlength=20)
    assert ((counts - 100) ** 2 / 100).sum() < 43.8
    # Recorded runs depend on these very rows: a new version of NumPy must give them again.
    assert chosen[0][:8].tolist() == FIRST_ROWS
    assert rows_fingerprint(SplitRows(chosen[0], None))["train_rows_crc32"] == CHECKSUM


FIRST_ROWS = [2, 3, 11, 20, 48, 59, 69, 88]
CHECKSUM = 821375529


@pytest.fixture
def config(data_dir):
    config = base_config()
    config.data.name, config.data.data_dir = "digits", data_dir
    return config


def test_dataset_of_a_tuning_run(config):
    whole = load_dataset(config.data)
    config.data.split, config.data.train_fraction = "tuning", 0.5
    half = load_dataset(config.data)
    assert len(half.test.labels) == 143 and len(half.train.labels) == 647
    for split, rows in ((half.train, half.chosen.train), (half.test, half.chosen.validation)):
        np.testing.assert_array_equal(split.images, whole.train.images[rows])
        np.testing.assert_array_equal(split.labels, whole.train.labels[rows])
    # Mean and std are those of the images trained on, and of no other.
    assert half.mean == pytest.approx(half.train.images.mean() / 255, rel=1e-6)
    assert half.std == pytest.approx(half.train.images.std() / 255, rel=1e-6)
    assert half.mean != pytest.approx(whole.mean, rel=1e-6)
    config.data.train_fraction = 1e-9
    with pytest.raises(ValueError, match=r"1e-09 of 1294 training images leaves none"):
        load_dataset(config.data)


def test_a_run_records_its_split(config, tmp_path):
    facts = {}
    for name, split, seed in (("a", "final", 0), ("b", "tuning", 0), ("c", "tuning", 1)):
        config.data.split, config.data.split_seed = split, seed
        run = prepare(config, tmp_path / name)
        facts[name] = json.loads((run.workdir.path / "config.json").read_text())["dataset"]
        run.workdir.close()
        chosen = rows_fingerprint(load_dataset(config.data).chosen)
        assert {key: facts[name][key] for key in chosen} == chosen
    assert facts["a"]["validation_rows_crc32"] is None
    assert (facts["a"]["train_images"], facts["a"]["test_images"]) == (1437, 1440)
    assert (facts["b"]["train_images"], facts["b"]["test_images"]) == (1294, 143)
    assert facts["b"]["validation_rows_crc32"] != facts["c"]["validation_rows_crc32"]


def test_imagenets_mean_and_std(config):
    config.data.mean_std = "imagenet"
    with pytest.raises(ValueError, match=r"3 channels and these have 1: .*mean_std=train"):
        load_dataset(config.data)
    from jaxws.data.statistics import mean_and_std

    mean, std = mean_and_std(np.zeros((2, 1, 1, 3), np.uint8), "imagenet")
    assert jax.tree.map(lambda x: x.dtype, (mean, std)) == (np.float32, np.float32)
    np.testing.assert_allclose([mean, std], [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(split="validation"), "data.split='validation': expected one of 'final', 'tuning'"),
        (dict(split="final", train_fraction=0.0), r"train_fraction is 0\.0, expected a part"),
        (dict(split="final", train_fraction=1.5), r"train_fraction is 1\.5"),
        (dict(split="final", train_fraction=float("nan")), "train_fraction is nan"),
        (dict(split="final", seed=-1), r"split_seed is -1"),
        (dict(split="tuning", train_fraction=0.01), "0.01 of 9 training images leaves none"),
    ],
)
def test_wrong_arguments_are_explained(changed, message):
    with pytest.raises(ValueError, match=message):
        choose_rows(np.zeros(10, int), **changed)


def test_too_few_images_to_hold_any_out():
    with pytest.raises(ValueError, match="holds out one of 10 training images and there are 9"):
        choose_rows(np.zeros(9, int), split="tuning")
