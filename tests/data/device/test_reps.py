"""Several views of each image, and crops smaller than the image: laws, chance and bad input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from jaxws.config import base_config
from jaxws.data import (
    Split,
    epoch_order,
    evaluation_batch,
    load_dataset,
    training_batch,
    view_shape,
)
from jaxws.training.run import prepare

OPTIONS = dict(mean=(0.3, 0.5, 0.6), std=(0.2, 0.3, 0.25), dtype=jnp.float32)


def random_split(size, shape):
    rng = np.random.default_rng(size)
    images = rng.integers(0, 256, (size, np.prod(shape)), dtype=np.uint8)
    return Split(jnp.asarray(images), jnp.arange(size, dtype=jnp.int32))


def where_marked(batch, reps, mark):
    """Corner and mirroring of each view of an image with a bright pixel and one beside it."""
    image = np.asarray(batch.image)[..., 0]
    width = image.shape[2]
    row, column = np.divmod(image.reshape(len(image), -1).argmax(1), width)
    mirrored = image[np.arange(len(image)), row, column - 1] > 0
    column = np.where(mirrored, width - 1 - column, column)
    return np.stack([mark - row, mark - column, mirrored], -1).reshape(-1, reps, 3)


def marked_batch(n, side, **changed):
    """Views of an image whose middle pixel is bright and whose right neighbour is half as bright.

    With a crop that always shows both, they tell the crop's corner and mirroring.
    """
    pixels = np.zeros((side, side), np.uint8)
    pixels[side // 2, side // 2 : side // 2 + 2] = 255, 128
    split = Split(jnp.asarray(pixels.reshape(1, -1)), jnp.zeros(1, jnp.int32))
    options = dict(image_shape=(side, side, 1), mean=(0.0,), std=(1.0,), dtype=jnp.float32)
    options |= dict(flip=True, ragged=False) | changed
    run = jax.jit(functools.partial(training_batch, **options))
    return run(split, jnp.zeros(n, jnp.int32), jax.random.key(0))


def chi_square(counts):
    expected = counts.sum() / counts.size
    return ((counts - expected) ** 2 / expected).sum()


@pytest.mark.parametrize(
    ("changed", "crop"),
    [
        (dict(pad=2, flip=True), "gather"),
        (dict(pad=2, flip=True, crop_size=4), "onehot"),
        (dict(pad=0, flip=True, crop_size=4), None),
        (dict(pad=0, flip=False), None),
    ],
)
def test_views_are_those_of_an_image_given_several_times(changed, crop):
    split, key = random_split(20, (7, 6, 3)), jax.random.key(3)
    indices = jnp.array([5, 0, -1, 19])
    options = dict(image_shape=(7, 6, 3), ragged=True, crop=crop) | OPTIONS | changed
    run = jax.jit(functools.partial(training_batch, **options), static_argnames="n_reps")
    views = run(split, indices, key, n_reps=3)
    again = run(split, jnp.repeat(indices, 3), key)
    assert views.image.shape[0] == 12 and views.mask.tolist()[5:9] == [True, False, False, False]
    for first, second in zip(views, again, strict=True):
        np.testing.assert_array_equal(first, second)


def test_an_image_is_read_once_however_many_views_there_are():
    split = random_split(20, (7, 6, 3))
    options = dict(image_shape=(7, 6, 3), pad=2, flip=True, ragged=False, n_reps=16) | OPTIONS
    run = functools.partial(training_batch, **options)
    jaxpr = jax.make_jaxpr(run)(split, jnp.arange(4), jax.random.key(0))
    reads = [
        equation.outvars[0].aval.shape
        for equation in _equations(jaxpr.jaxpr)
        if equation.primitive.name == "gather" and equation.invars[0].aval.shape == (20, 126)
    ]
    assert reads == [(4, 126)]


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from _equations(inner)


@pytest.mark.parametrize("crop_size", [None, 6])
def test_views_of_one_image_are_uniform_and_independent(crop_size):
    """All pairs of two views' crops and flips come equally often, padded or cut from the middle."""
    side, first = (9, -1) if crop_size is None else (10, 1)
    batch = marked_batch(12_000, side, pad=1, crop_size=crop_size, n_reps=2)
    views = where_marked(batch, 2, side // 2) - np.array([first, first, 0])
    counts = np.zeros((3, 3, 2) * 2)
    np.add.at(counts, tuple(views.reshape(-1, 6).T), 1)
    # 323 degrees of freedom: 406 is the 99.9 % point. Expected are 37 in each cell.
    assert chi_square(counts) < 406


@pytest.mark.parametrize(("pad", "places"), [(4, 9), (8, 17)])
def test_tiny_imagenets_crops_lie_in_the_middle_of_the_image(pad, places):
    """64 pixels, of which 48 are seen: corners are 8 - pad to 8 + pad, equally often, no flip."""
    batch = marked_batch(20_000, 64, pad=pad, crop_size=48, flip=False)
    corners = where_marked(batch, 1, 32)[:, 0]
    assert not corners[:, 2].any()
    counts = np.zeros((places, places))
    np.add.at(counts, tuple(corners[:, :2].T - (8 - pad)), 1)  # Out of range: an IndexError.
    # 99.9 % points for 80 and 288 degrees of freedom.
    assert chi_square(counts) < {9: 125, 17: 367}[places]
    # The image's pixels alone, no padding: there every pixel is 1 or more.
    bright = marked_batch(1, 64, pad=pad, crop_size=48, mean=(-1.0,), n_reps=100)
    assert bright.image.min() > 0


def test_padding_shows_only_beyond_the_image():
    """Where there is image, a crop off the centre shows it; beyond, the mean colour: zero."""
    split = Split(jnp.full((1, 8 * 8), 255, jnp.uint8), jnp.zeros(1, jnp.int32))
    batch = training_batch(
        split, jnp.zeros(400, jnp.int32), jax.random.key(0), image_shape=(8, 8, 1), pad=4,
        flip=False, mean=(0.0,), std=(1.0,), dtype=jnp.float32, ragged=False, crop_size=4,
    )  # fmt: skip
    image = np.asarray(batch.image)[..., 0]
    assert set(np.unique(image)) == {0, 1}
    lines = image.max(2).sum(1)
    # Corners -2 to 6 of 8 rows: 2 rows of padding at most, each corner a ninth of the time.
    assert lines.min() == 2 and 0.4 < (lines == 4).mean() < 0.7


def test_tests_see_the_centre():
    split, indices = random_split(6, (9, 8, 3)), jnp.array([4, 1, -1])
    options = dict(image_shape=(9, 8, 3), ragged=True, crop_size=4) | OPTIONS
    batch = evaluation_batch(split, indices, **options)
    pixels = np.asarray(split.images)[[4, 1]].reshape(-1, 9, 8, 3)[:, 2:6, 2:6]
    expected = (pixels / 255 - OPTIONS["mean"]) / OPTIONS["std"]
    np.testing.assert_allclose(batch.image[:2], expected, atol=1e-5)
    assert not batch.image[2].any()
    plain = training_batch(split, indices, jax.random.key(0), pad=0, flip=False, **options)
    np.testing.assert_array_equal(batch.image, plain.image)


@pytest.mark.parametrize(("size", "batch_size", "reps"), [(23, 5, 1), (23, 5, 3), (12, 4, 4)])
def test_an_epoch_shows_n_views_of_every_image(size, batch_size, reps):
    split, seen = random_split(size, (3, 3, 3)), np.zeros(size, int)
    options = dict(image_shape=(3, 3, 3), pad=1, flip=True, n_reps=reps, ragged=True) | OPTIONS
    run = jax.jit(functools.partial(training_batch, **options))
    order = epoch_order(0, 0, size, batch_size)
    assert order.shape == (-(-size // batch_size), batch_size)
    for step, indices in enumerate(order):
        batch = run(split, indices, jax.random.key(step))
        np.add.at(seen, np.asarray(batch.label)[np.asarray(batch.mask)], 1)
    assert (seen == reps).all()


@pytest.mark.parametrize("crop_size", [0, 8, 4.5])
def test_crops_that_do_not_fit(crop_size):
    with pytest.raises(ValueError, match=rf"data\.crop_size is {crop_size}.*7x9.*from 1 to 7"):
        view_shape((7, 9, 3), crop_size)


def test_a_crop_larger_than_the_images_is_refused_before_a_run_starts(tmp_path):
    config = base_config()
    config.data.name, config.data.data_dir = "digits", str(tmp_path / "tfds")
    config.data.crop_size = 25
    assert load_dataset(config.data).image_shape == (24, 24, 1)
    with pytest.raises(ValueError, match="crop_size is 25 and the images have 24x24 pixels"):
        prepare(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("reps", [0, 1.5])
def test_wrong_numbers_of_views(reps):
    with pytest.raises(ValueError, match=f"n_reps is {reps}, expected a whole number"):
        marked_batch(1, 5, pad=1, n_reps=reps)
