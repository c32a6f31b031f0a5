"""Crops of a batch of images, each at its own place and mirrored or not, with two exact kernels.

Places count from the image's own corner, and may lie outside: what a crop shows there is padding.
"""

from typing import Literal

import jax
import jax.numpy as jnp

Crop = Literal["gather", "onehot"]


def crop_and_flip(
    pixels: jax.Array,
    corners: jax.Array,
    mirrored: jax.Array,
    *,
    size: tuple[int, int],
    crop: Crop | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Cuts r crops out of every image, then mirrors the ones that are marked.

    Args:
      pixels: uint8 ``(n, H, W, c)``.
      corners: int ``(n, r, 2)``, row and column of the image that the crop's first pixel shows;
        negative where the crop begins in the padding.
      mirrored: bool ``(n, r)``, which crops to mirror left and right.
      size: height and width of the crops.
      crop: 'gather', 'onehot', or None for the one that suits the platform.

    Returns:
      uint8 ``(n, r, *size, c)`` crops with zeros outside the image, and bool ``(n, r, *size, 1)``,
      True inside it.

    Example:
      >>> import jax.numpy as jnp
      >>> image = jnp.array([[1, 2], [3, 4]], jnp.uint8).reshape(1, 2, 2, 1)
      >>> corners, mirrored = jnp.array([[[-1, 0], [0, 1]]]), jnp.array([[True, False]])
      >>> crops, inside = crop_and_flip(image, corners, mirrored, size=(2, 2))
      >>> crops[0, :, :, :, 0].tolist()
      [[[0, 0], [2, 1]], [[2, 0], [4, 0]]]
      >>> inside[0, 1, :, :, 0].tolist()
      [[True, False], [True, False]]
    """
    height, width = size
    # Which row and column of the image each pixel of the crop shows; out of range in the padding.
    rows = jnp.arange(height) + corners[..., :1]
    columns = jnp.arange(width)
    columns = jnp.where(mirrored[..., None], width - 1 - columns, columns) + corners[..., 1:]
    inside_row = (rows >= 0) & (rows < pixels.shape[1])
    inside_column = (columns >= 0) & (columns < pixels.shape[2])
    inside = (inside_row[..., :, None] & inside_column[..., None, :])[..., None]
    if crop is None:
        crops = jax.lax.platform_dependent(
            pixels, rows, columns, cpu=_crop_by_gather, default=_crop_by_onehot
        )
    else:
        crops = {"gather": _crop_by_gather, "onehot": _crop_by_onehot}[crop](pixels, rows, columns)
    return jnp.where(inside, crops, jnp.uint8(0)), inside


def view_shape(
    image_shape: tuple[int, int, int], crop_size: int | None = None
) -> tuple[int, int, int]:
    """The shape of what a network sees of an image.

    Args:
      image_shape: ``(H, W, c)`` of the stored images.
      crop_size: side of the square crop, or None for the whole image.

    Returns:
      ``(h, w, c)``.

    Raises:
      ValueError: if the crop is larger than the image.

    Example:
      >>> view_shape((64, 64, 3), 48), view_shape((32, 32, 3))
      ((48, 48, 3), (32, 32, 3))
    """
    if crop_size is None:
        return image_shape
    if crop_size != int(crop_size) or not 1 <= crop_size <= min(image_shape[:2]):
        height, width = image_shape[:2]
        raise ValueError(
            f"data.crop_size is {crop_size!r} and the images have {height}x{width} pixels, expected"
            f" a whole number from 1 to {min(height, width)}: set a smaller --config.data.crop_size"
        )
    return crop_size, crop_size, image_shape[2]


def centre_corner(image_shape: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int]:
    """Row and column at which the crop in the centre begins, rounded down.

    Args:
      image_shape: height and width of the images, and anything after them.
      size: height and width of the crop.

    Returns:
      Row and column; negative where the crop is larger than the image.

    Example:
      >>> centre_corner((64, 65, 3), (48, 48))
      (8, 8)
    """
    return (image_shape[0] - size[0]) // 2, (image_shape[1] - size[1]) // 2


def _crop_by_gather(pixels: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    n, height, width, c = pixels.shape
    rows = jnp.clip(rows, 0, height - 1)
    columns = jnp.clip(columns, 0, width - 1)
    positions = rows[..., :, None] * width + columns[..., None, :]
    flat = pixels.reshape(n, height * width, c)
    crops = jnp.take_along_axis(flat, positions.reshape(n, -1, 1), axis=1)
    return crops.reshape(*positions.shape, c)


def _crop_by_onehot(pixels: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    height, width = pixels.shape[1:3]
    # Exact: bfloat16 holds every integer up to 256, and each sum has one term that is not zero.
    select_row = jax.nn.one_hot(rows, height, dtype=jnp.bfloat16)
    select_column = jax.nn.one_hot(columns, width, dtype=jnp.bfloat16)
    values = jnp.einsum("nrhH,nHWc->nrhWc", select_row, pixels.astype(jnp.bfloat16))
    return jnp.einsum("nrwW,nrhWc->nrhwc", select_column, values).astype(jnp.uint8)
