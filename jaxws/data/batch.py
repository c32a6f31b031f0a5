"""Batches as a training step sees them, and how pixels become numbers for a network."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Batch(NamedTuple):
    """One batch on the device.

    Attributes:
      image: ``(n, H, W, c)``, normalised, of the dtype asked for.
      label: ``(n,)`` int32.
      mask: ``(n,)`` bool, False for the rows that only fill up a ragged last batch (their image
        and label are zeros), or None when every row is real.
    """

    image: jax.Array
    label: jax.Array
    mask: jax.Array | None


def host_batch(
    image: jax.Array,
    label: jax.Array,
    key: jax.Array | None,
    *,
    flip: bool,
    mean: Any,
    std: Any,
    dtype: Any,
    ragged: bool,
) -> Batch:
    """Flips and normalises crops that have been cut on the host.

    Args:
      image: uint8 ``(n, H, W, c)``.
      label: int32 ``(n,)``; -1 fills up a ragged batch.
      key: the key of this step, or None to flip nothing.
      flip: mirror left and right with probability one half.
      mean: ``(c,)`` mean of the channels, in [0, 1] pixel units.
      std: ``(c,)`` standard deviation of the channels, in the same units.
      dtype: the dtype of the images.
      ragged: whether ``label`` may hold -1. Static; False gives ``mask=None``.

    Returns:
      A ``Batch`` of n images.

    Example:
      >>> import jax.numpy as jnp
      >>> batch = host_batch(jnp.full((2, 4, 4, 1), 255, jnp.uint8), jnp.array([3, -1]), None,
      ...                    flip=False, mean=(0.5,), std=(0.5,), dtype=jnp.float32, ragged=True)
      >>> batch.image[:, 0, 0, 0].tolist(), batch.label.tolist(), batch.mask.tolist()
      ([1.0, 0.0], [3, 0], [True, False])
    """
    mask = label >= 0 if ragged else None
    if flip and key is not None:
        mirrored = jax.random.bernoulli(key, 0.5, label.shape)
        image = jnp.where(mirrored[:, None, None, None], image[:, :, ::-1], image)
    label = jnp.maximum(label, 0).astype(jnp.int32)
    return Batch(normalise(image, None, mask, mean, std, dtype), label, mask)


def normalise(
    pixels: jax.Array,
    inside: jax.Array | None,
    mask: jax.Array | None,
    mean: Any,
    std: Any,
    dtype: Any,
) -> jax.Array:
    """Turns pixels into what a network sees; meant to be called inside a jit.

    Args:
      pixels: uint8 ``(n, H, W, c)``.
      inside: bool ``(n, H, W, 1)``, False for what becomes zero, as padding does; None for nothing.
      mask: bool ``(n,)``, False for images that become zero; None for none.
      mean: ``(c,)`` mean of the channels, in [0, 1] pixel units.
      std: ``(c,)`` standard deviation of the channels, in the same units.
      dtype: the dtype of the result.

    Returns:
      ``(n, H, W, c)``.

    Example:
      >>> import jax.numpy as jnp
      >>> white = jnp.full((1, 1, 1, 1), 255, jnp.uint8)
      >>> normalise(white, None, None, (0.5,), (0.25,), jnp.float32).item()
      2.0
    """
    # A difference, then a product: no multiply-add that a compiler may or may not contract, so
    # the bits do not depend on what the normalisation is fused with.
    centre = jnp.asarray(mean, jnp.float32) * 255
    scale = 1 / (jnp.asarray(std, jnp.float32) * 255)
    image = (pixels.astype(jnp.float32) - centre) * scale
    if inside is not None:
        image = jnp.where(inside, image, 0)
    if mask is not None:
        image = jnp.where(mask[:, None, None, None], image, 0)
    return image.astype(dtype)
