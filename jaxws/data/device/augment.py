"""Batches from a dataset that lives on the device: gather, crop, flip, normalise.

Everything here is a pure function meant to be called inside a jit, and every random choice is a
function of (seed, step) alone: a run that is resumed from its step number sees the same batches.
Images stay flat uint8 rows ``(N, H*W*c)`` until a batch of them has been gathered; a 4-D data set
would be laid out anew by XLA, as a whole, in every step.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxws.data.batch import Batch, normalise
from jaxws.data.device.crop import Crop, centre_corner, crop_and_flip, view_shape
from jaxws.data.device.dataset import Split


def training_batch(
    split: Split,
    indices: jax.Array,
    key: jax.Array,
    *,
    image_shape: tuple[int, int, int],
    pad: int,
    flip: bool,
    mean: Any,
    std: Any,
    dtype: Any,
    ragged: bool,
    crop_size: int | None = None,
    n_reps: int = 1,
    crop: Crop | None = None,
) -> Batch:
    """Gathers images, crops and flips each of them at random, and normalises.

    Every row of ``indices`` draws ``n_reps`` crops and flips of its own. Views of an image follow
    one another in the batch: row i holds view i % n_reps of image indices[i // n_reps]. An image is
    gathered once, however many views of it there are.

    Args:
      split: ``images`` uint8 ``(N, H*W*c)`` and ``labels`` int32 ``(N,)``.
      indices: int32 ``(n,)`` rows of ``split``; -1 fills up a ragged batch.
      key: the key of this step (fold the step in before the call).
      image_shape: ``(H, W, c)``.
      pad: how far a crop may lie from the centre, in pixels, each way. Where it reaches beyond
        the image it shows the mean colour (zero after normalisation). So crops are taken from
        the image padded by ``pad`` if they have its size, and from its centre, crop_size +
        2 * pad pixels wide, if there is as much. 0 takes the centre crop.
      flip: mirror left and right with probability one half.
      mean: ``(c,)`` mean of the channels, in [0, 1] pixel units.
      std: ``(c,)`` standard deviation of the channels, in the same units.
      dtype: the dtype of the images.
      ragged: whether ``indices`` may hold -1. Static; False gives ``mask=None``.
      crop_size: side of the crops in pixels, at most that of the image; None for its own.
      n_reps: views of each image.
      crop: the kernel, 'gather' or 'onehot'. Both give the same bits. None takes the gather on
        a CPU and the one-hot matrix product, which suits matrix units, everywhere else.

    Returns:
      A ``Batch`` of n * n_reps images.

    Raises:
      ValueError: if an argument does not fit the others.

    Example:
      >>> import functools, jax, jax.numpy as jnp
      >>> from jaxws.data import Split, training_batch
      >>> split = Split(jnp.full((10, 4 * 4 * 3), 255, jnp.uint8), jnp.arange(10))
      >>> cut = jax.jit(functools.partial(
      ...     training_batch, image_shape=(4, 4, 3), pad=1, flip=True, mean=(0.5, 0.5, 0.5),
      ...     std=(0.25, 0.25, 0.25), dtype=jnp.bfloat16, ragged=True))
      >>> batch = cut(split, jnp.array([3, 3, 7, -1]), jax.random.key(0))
      >>> batch.image.shape, float(batch.image.max())
      ((4, 4, 4, 3), 2.0)
      >>> batch.label.tolist(), batch.mask.tolist()
      ([3, 3, 7, 0], [True, True, True, False])
    """
    _check(split, indices, image_shape, mean, std)
    if pad < 0 or pad != int(pad):
        raise ValueError(f"pad is {pad!r}, expected a whole number of pixels, 0 or more")
    if n_reps < 1 or n_reps != int(n_reps):
        raise ValueError(f"n_reps is {n_reps!r}, expected a whole number, 1 or more")
    if crop not in (None, "gather", "onehot"):
        raise ValueError(f"crop is {crop!r}, expected 'gather', 'onehot' or None (the fastest)")
    shape = view_shape(image_shape, crop_size)
    pixels, label, mask = _take(split, indices, image_shape, ragged)
    key_offset, key_flip = jax.random.split(key)
    views = (*indices.shape, n_reps)
    mirrored = jax.random.bernoulli(key_flip, 0.5, views) & flip
    if pad:
        offsets = jax.random.randint(key_offset, (*views, 2), 0, 2 * pad + 1)
        corners = offsets - pad + jnp.array(centre_corner(image_shape, shape[:2]))
        pixels, inside = crop_and_flip(pixels, corners, mirrored, size=shape[:2], crop=crop)
        inside = inside.reshape(-1, *inside.shape[2:])
    else:
        inside = None
        pixels = jnp.broadcast_to(_centre(pixels, shape)[:, None], (*views, *shape))
        if flip:
            pixels = jnp.where(mirrored[..., None, None, None], pixels[..., ::-1, :], pixels)
    pixels = pixels.reshape(-1, *shape)
    if n_reps > 1:
        label = jnp.repeat(label, n_reps)
        mask = None if mask is None else jnp.repeat(mask, n_reps)
    return Batch(normalise(pixels, inside, mask, mean, std, dtype), label, mask)


def evaluation_batch(
    split: Split,
    indices: jax.Array,
    *,
    image_shape: tuple[int, int, int],
    mean: Any,
    std: Any,
    dtype: Any,
    ragged: bool,
    crop_size: int | None = None,
) -> Batch:
    """Gathers images, crops their centre and normalises them, with nothing random.

    Args:
      split: ``images`` uint8 ``(N, H*W*c)`` and ``labels`` int32 ``(N,)``.
      indices: int32 ``(n,)`` rows of ``split``; -1 fills up a ragged batch.
      image_shape: ``(H, W, c)``.
      mean: ``(c,)`` mean of the channels, in [0, 1] pixel units.
      std: ``(c,)`` standard deviation of the channels, in the same units.
      dtype: the dtype of the images.
      ragged: whether ``indices`` may hold -1. Static; False gives ``mask=None``.
      crop_size: side of the crop in pixels, at most that of the image; None for all of it.

    Returns:
      A ``Batch`` of n images.

    Raises:
      ValueError: if an argument does not fit the others.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxws.data import Split, evaluation_batch
      >>> split = Split(jnp.zeros((10, 4), jnp.uint8), jnp.arange(10))
      >>> batch = evaluation_batch(split, jnp.array([9, 0]), image_shape=(2, 2, 1), mean=(0.5,),
      ...                          std=(0.5,), dtype=jnp.float32, ragged=False)
      >>> float(batch.image.max()), batch.label.tolist(), batch.mask
      (-1.0, [9, 0], None)
    """
    _check(split, indices, image_shape, mean, std)
    shape = view_shape(image_shape, crop_size)
    pixels, label, mask = _take(split, indices, image_shape, ragged)
    pixels = _centre(pixels, shape)
    return Batch(normalise(pixels, None, mask, mean, std, dtype), label, mask)


def _take(
    split: Split, indices: jax.Array, image_shape: tuple[int, int, int], ragged: bool
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    mask = indices >= 0 if ragged else None
    rows = jnp.maximum(indices, 0)
    pixels = jnp.take(split.images, rows, axis=0, mode="clip")
    label = jnp.take(split.labels, rows, axis=0, mode="clip").astype(jnp.int32)
    if mask is not None:
        label = jnp.where(mask, label, 0)
    return pixels.reshape(*indices.shape, *image_shape), label, mask


def _centre(pixels: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    top, left = centre_corner(pixels.shape[1:], shape[:2])
    return pixels[:, top : top + shape[0], left : left + shape[1]]


def _check(
    split: Split, indices: jax.Array, image_shape: tuple[int, int, int], mean: Any, std: Any
) -> None:
    if len(image_shape) != 3:
        raise ValueError(f"image_shape is {image_shape!r}, expected (height, width, channels)")
    if split.images.ndim != 2 or split.images.shape[1] != math.prod(image_shape):
        raise ValueError(
            f"images have shape {split.images.shape}, expected (N, {math.prod(image_shape)}), one "
            f"flat row for each image of image_shape {tuple(image_shape)}: reshape them to (N, -1)"
        )
    if split.images.dtype != jnp.uint8:
        raise ValueError(f"images are {split.images.dtype}, expected uint8 pixels, 0 to 255")
    if indices.ndim != 1 or not jnp.issubdtype(indices.dtype, jnp.integer):
        raise ValueError(
            f"indices are {indices.dtype} of shape {indices.shape}, expected integers of shape (n,)"
        )
    for name, value in (("mean", mean), ("std", std)):
        if np.shape(value) != (image_shape[2],):
            raise ValueError(
                f"{name} has shape {np.shape(value)}, expected ({image_shape[2]},), one number "
                "for each channel"
            )
