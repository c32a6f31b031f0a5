"""Order, crops, flips and normalisation, against plain numpy and against chance."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxws.data import (
    Split,
    crop_and_flip,
    epoch_order,
    evaluation_batch,
    evaluation_order,
    steps_per_epoch,
    training_batch,
)
from jaxws.data.device.crop import centre_corner

MEAN = np.array([0.3, 0.5, 0.6], np.float32)
STD = np.array([0.2, 0.3, 0.25], np.float32)


def random_split(size=40, shape=(7, 6, 3), seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (size, np.prod(shape)), dtype=np.uint8)
    return Split(jnp.asarray(images), jnp.asarray(rng.integers(0, 10, size), jnp.int32))


def batch_of(split, indices, key, **changed):
    options = dict(image_shape=(7, 6, 3), pad=2, flip=True, mean=MEAN, std=STD)
    options |= dict(dtype=jnp.float32, ragged=False) | changed
    return in_one(training_batch, **options)(split, jnp.asarray(indices), key)


def in_one(function, **options):
    """One program; op by op it takes many times as long to compile."""
    return jax.jit(functools.partial(function, **options))


def numpy_crops(pixels, corners, mirrored, size):
    """Pad, cut and mirror one view after the other."""
    reps = corners.shape[1]
    crops = np.zeros((len(pixels), reps, *size, pixels.shape[-1]), np.uint8)
    inside = np.zeros((len(pixels), reps, *size, 1), bool)
    far = int(np.abs(corners).max()) + max(size)  # More padding than any crop can reach.
    around = ((far, far), (far, far), (0, 0))
    for i, r in np.ndindex(len(pixels), reps):
        padded, known = np.pad(pixels[i], around), np.pad(np.ones_like(pixels[i, ..., :1]), around)
        top, left = corners[i, r] + far
        window = (slice(top, top + size[0]), slice(left, left + size[1]))
        step = -1 if mirrored[i, r] else 1
        crops[i, r], inside[i, r] = padded[window][:, ::step], known[window][:, ::step]
    return crops, inside


@pytest.mark.parametrize("crop", ["gather", "onehot", None])
@pytest.mark.parametrize(
    ("shape", "size", "pad", "reps"),
    [
        ((7, 6, 3), (7, 6), 1, 1),  # CIFAR's kind: the image padded,
        ((7, 6, 3), (7, 6), 12, 2),  # beyond its own size,
        ((5, 9, 1), (5, 9), 3, 3),
        ((1, 1, 3), (1, 1), 1, 1),
        ((12, 12, 3), (6, 6), 3, 2),  # TinyImageNet's kind: all of the image,
        ((12, 12, 3), (6, 6), 1, 4),  # its middle,
        ((13, 10, 1), (7, 7), 3, 2),  # or more than there is.
    ],
)
def test_crops_equal_those_of_numpy(crop, shape, size, pad, reps):
    rng = np.random.default_rng(pad)
    pixels = rng.integers(0, 256, (40, *shape), dtype=np.uint8)
    corners = rng.integers(0, 2 * pad + 1, (40, reps, 2)) - pad + centre_corner(shape, size)
    mirrored = rng.random((40, reps)) < 0.5
    crops, inside = jax.jit(crop_and_flip, static_argnames=("size", "crop"))(
        pixels, corners, mirrored, size=size, crop=crop
    )
    expected, expected_inside = numpy_crops(pixels, corners, mirrored, size)
    assert crops.dtype == jnp.uint8
    np.testing.assert_array_equal(crops, expected)
    np.testing.assert_array_equal(inside, expected_inside)


def test_every_byte_survives_both_kernels():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    corner, straight = jnp.zeros((1, 1, 2), jnp.int32), jnp.zeros((1, 1), bool)
    for crop in ("gather", "onehot"):
        run = in_one(crop_and_flip, size=(16, 16), crop=crop)
        crops, _ = run(pixels, corner, straight)
        np.testing.assert_array_equal(crops[0], pixels)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_both_kernels_give_the_same_bits(dtype):
    split, key = random_split(), jax.random.key(1)
    run = jax.jit(batch_of, static_argnames=("crop", "dtype", "mean", "std"))
    options = dict(mean=tuple(MEAN.tolist()), std=tuple(STD.tolist()), dtype=dtype)
    gather = run(split, np.arange(40), key, crop="gather", **options)
    onehot = run(split, np.arange(40), key, crop="onehot", **options)
    assert gather.image.dtype == dtype and gather.image.shape == (40, 7, 6, 3)
    np.testing.assert_array_equal(gather.image, onehot.image)


def test_batch_is_the_normalised_crop_with_the_mean_colour_around():
    split, key = random_split(), jax.random.key(2)
    indices = np.array([5, 5, 0, 39])
    batch = batch_of(split, indices, key)
    pixels = np.asarray(split.images)[indices].reshape(-1, 7, 6, 3)
    found = []
    for image, source in zip(np.asarray(batch.image), pixels, strict=True):
        for top, left, mirrored in np.ndindex(5, 5, 2):
            corner, mirror = np.array([[(top - 2, left - 2)]]), [[mirrored]]
            crop, inside = numpy_crops(source[None], corner, np.array(mirror), (7, 6))
            expected = np.where(inside, (crop / 255 - MEAN) / STD, 0)[0, 0]
            if np.allclose(image, expected, atol=1e-5):
                found.append((top, left, mirrored))
    assert len(found) == 4  # Each image is exactly one of the 50 possible views of its source.
    assert found[0] != found[1]  # The same image twice: two independent views.
    np.testing.assert_array_equal(batch.label, np.asarray(split.labels)[indices])
    assert batch.mask is None


def test_without_augmentation_training_and_evaluation_agree():
    split, indices = random_split(), jnp.array([3, 1, -1])
    options = dict(image_shape=(7, 6, 3), mean=MEAN, std=STD, dtype=jnp.float32, ragged=True)
    plain = in_one(evaluation_batch, **options)(split, indices)
    train = in_one(training_batch, pad=0, flip=False, **options)(split, indices, jax.random.key(0))
    for first, second in zip(plain, train, strict=True):
        np.testing.assert_array_equal(first, second)
    pixels = np.asarray(split.images)[[3, 1]].reshape(-1, 7, 6, 3) / 255
    np.testing.assert_allclose(plain.image[:2], (pixels - MEAN) / STD, atol=1e-5)


@pytest.mark.parametrize("pad", [0, 2])
def test_filling_rows_are_zeros_and_masked(pad):
    batch = batch_of(random_split(), [4, -1, 2, -1], jax.random.key(0), pad=pad, ragged=True)
    assert batch.mask.tolist() == [True, False, True, False]
    image, label = np.asarray(batch.image), np.asarray(batch.label)
    assert not image[1::2].any() and not label[1::2].any()
    assert image[::2].any((1, 2, 3)).all()


def test_offsets_and_flips_are_uniform_and_independent():
    # One bright pixel in the middle of an image wide enough never to lose it.
    pixels = np.zeros((1, 9, 9, 1), np.uint8)
    pixels[0, 4, 4] = 255
    marked = pixels.copy()
    marked[0, 4, 5] = 128
    split = Split(jnp.asarray(marked.reshape(1, -1)), jnp.zeros(1, jnp.int32))
    n = 10_000
    options = dict(image_shape=(9, 9, 1), pad=2, flip=True, mean=(0.0,), std=(1.0,))
    run = in_one(training_batch, dtype=jnp.float32, ragged=False, **options)
    batch = run(split, jnp.zeros(n, jnp.int32), jax.random.key(0))
    image = np.asarray(batch.image)[..., 0]
    row, column = np.divmod(image.reshape(n, -1).argmax(1), 9)
    flipped = image[np.arange(n), row, column - 1] > 0
    counts = np.zeros((5, 5, 2))
    np.add.at(counts, (row - 2, column - 2, flipped.astype(int)), 1)
    expected = n / counts.size
    # Chi-square with 49 degrees of freedom: 85 is its 99.9 % point.
    assert ((counts - expected) ** 2 / expected).sum() < 85


def test_flip_alone_flips_half():
    split = Split(jnp.array([[0, 255]], jnp.uint8), jnp.zeros(1, jnp.int32))
    options = dict(image_shape=(1, 2, 1), pad=0, flip=True, mean=(0.0,), std=(1.0,))
    run = in_one(training_batch, dtype=jnp.float32, ragged=False, **options)
    batch = run(split, jnp.zeros(1000, jnp.int32), jax.random.key(0))
    assert 430 < np.asarray(batch.image)[:, 0, 0, 0].sum() < 570


def test_draws_differ_between_steps_and_repeat_with_the_step():
    split, indices = random_split(), jnp.arange(32)

    @jax.jit
    def step_batch(step):
        return batch_of(split, indices, jax.random.fold_in(jax.random.key(0), step)).image

    np.testing.assert_array_equal(step_batch(3), step_batch(3))
    assert (step_batch(3) != step_batch(4)).any()


def test_inside_shard_map():
    split, mesh = random_split(), jax.make_mesh((1,), ("data",), (jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec
    options = dict(image_shape=(7, 6, 3), pad=2, flip=True, mean=MEAN, std=STD)
    options |= dict(dtype=jnp.float32, ragged=False)
    run = functools.partial(training_batch, **options)
    in_specs = (spec(), spec("data"), spec())
    sharded = jax.jit(
        jax.shard_map(lambda *a: run(*a)[:2], mesh=mesh, in_specs=in_specs, out_specs=spec("data"))
    )(split, jnp.arange(8), jax.random.key(0))
    plain = jax.jit(run)(split, jnp.arange(8), jax.random.key(0))
    np.testing.assert_array_equal(sharded[0], plain.image)


@settings(max_examples=25, deadline=None)
@given(st.data(), st.integers(0, 2**31 - 1), st.integers(0, 1000))
def test_an_epoch_shows_every_image_once(data, seed, epoch):
    size = data.draw(st.sampled_from([1, 2, 17, 64]))  # Few, for each of them compiles.
    batch_size = data.draw(st.sampled_from([1, 8, 16, 17, 33]).map(lambda value: min(value, size)))
    order = np.asarray(epoch_order(seed, epoch, size, batch_size))
    assert order.dtype == np.int32
    assert order.shape == (steps_per_epoch(size, batch_size), batch_size)
    flat = order.ravel()
    assert sorted(flat[:size]) == list(range(size))
    assert (flat[size:] == -1).all() and len(flat) - size < batch_size


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.integers(1, 90))
def test_evaluation_counts_every_image_once(size, batch_size):
    order = np.asarray(evaluation_order(size, batch_size))
    assert order.dtype == np.int32 and order.shape[1] == batch_size
    flat = order.ravel()
    np.testing.assert_array_equal(flat[:size], np.arange(size))
    assert (flat[size:] == -1).all() and len(flat) - size < batch_size


def test_order_depends_on_seed_and_epoch_traced_or_not():
    traced = jax.jit(epoch_order, static_argnums=(2, 3))
    np.testing.assert_array_equal(traced(7, 3, 50, 8), epoch_order(7, 3, 50, 8))
    orders = {np.asarray(traced(seed, epoch, 50, 8)).tobytes() for seed, epoch in np.ndindex(4, 4)}
    assert len(orders) == 16


def test_order_is_not_the_one_of_a_key_a_caller_would_fold():
    key = jax.random.fold_in(jax.random.key(0), 1)
    assert (epoch_order(0, 1, 50, 50)[0] != jax.random.permutation(key, 50)).any()


def test_steps_of_the_paper():
    assert steps_per_epoch(50_000, 512) == 98


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: steps_per_epoch(10, 11), "batch_size 11 is larger than the data.*10 training"),
        (lambda: epoch_order(0, 0, 10, 11), "larger than the data"),
        (lambda: steps_per_epoch(10, 0), "batch_size is 0, expected"),
        (lambda: evaluation_order(0, 1), "size is 0, expected"),
        (lambda: batch_of(random_split(), [0], jax.random.key(0), pad=-1), "pad is -1"),
        (lambda: batch_of(random_split(), [0], jax.random.key(0), pad=0.5), "pad is 0.5"),
        (lambda: batch_of(random_split(), [0], jax.random.key(0), crop="slice"), "crop is 'slice'"),
        (lambda: batch_of(random_split(), [0.0], jax.random.key(0)), "indices are float32"),
        (lambda: batch_of(random_split(), [[0]], jax.random.key(0)), r"shape \(1, 1\)"),
        (
            lambda: batch_of(random_split(), [0], jax.random.key(0), image_shape=(7, 7, 3)),
            r"expected \(N, 147\)",
        ),
        (lambda: batch_of(random_split(), [0], jax.random.key(0), mean=MEAN[:1]), "mean has shape"),
        (lambda: batch_of(random_split(), [0], jax.random.key(0), std=0.5), "std has shape"),
        (
            lambda: batch_of(
                Split(jnp.zeros((4, 126)), jnp.zeros(4, jnp.int32)), [0], jax.random.key(0)
            ),
            "expected uint8",
        ),
        (
            lambda: batch_of(random_split(), [0], jax.random.key(0), image_shape=(126,)),
            "expected .height, width, channels",
        ),
    ],
)
def test_wrong_arguments_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()
