"""Images as tokens: square patches that do not overlap."""

from __future__ import annotations

from collections.abc import Sequence

import jax


def patches(x: jax.Array, patch_size: int) -> jax.Array:
    """Cuts images into square patches that do not overlap.

    Args:
      x: images, shape (n, H, W, c).
      patch_size: side p of a patch, in pixels.

    Returns:
      Tokens of shape (n, H W / p^2, p p c), row by row; pixels of a patch are in the order (i, j,
      c) of a convolution's kernel.

    Raises:
      ValueError: p does not divide H and W.

    Example:
      >>> import jax.numpy as jnp
      >>> patches(jnp.arange(8).reshape(1, 2, 4, 1), 2)[0].tolist()
      [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    check_patches(x.shape[1:], patch_size)
    n, height, width, channels = x.shape
    h, w = height // patch_size, width // patch_size
    x = x.reshape(n, h, patch_size, w, patch_size, channels).swapaxes(2, 3)
    return x.reshape(n, h * w, patch_size * patch_size * channels)


def check_patches(image_shape: Sequence[int], patch_size: int) -> None:
    """Checks that images can be cut into patches, without computing anything.

    Args:
      image_shape: (H, W, c).
      patch_size: side of a patch, in pixels.

    Raises:
      ValueError: the side does not divide H and W.

    Example:
      >>> check_patches((8, 12, 3), 4)
    """
    height, width = image_shape[:2]
    if patch_size < 1 or height % patch_size or width % patch_size:
        raise ValueError(
            f"images of {height} x {width} pixels cannot be cut into patches of {patch_size} x"
            f" {patch_size}: choose a patch_size that divides both, or data.crop_size."
        )
