"""Shifting and mirroring a batch of images, each by its own amount, with two exact kernels."""

from typing import Literal

import jax
import jax.numpy as jnp

Crop = Literal["gather", "onehot"]


def crop_and_flip(
    pixels: jax.Array,
    offsets: jax.Array,
    mirrored: jax.Array,
    *,
    pad: int,
    crop: Crop | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Shift every image by its own offset, then mirror the ones that are marked.

    Args:
        pixels: uint8 `(n, H, W, c)`.
        offsets: int `(n, 2)`, the corner of the crop (row, column) in the image that has been
            padded by `pad` on each side: 0 to 2 * pad.
        mirrored: bool `(n,)`, which crops to mirror left and right.
        pad: Pixels of padding on each side.
        crop: 'gather', 'onehot', or None for the one that suits the platform.

    Returns:
        uint8 `(n, H, W, c)` crops with zeros outside the image, and bool `(n, H, W, 1)`, True
        inside it.

    Example:
        >>> import jax.numpy as jnp
        >>> image = jnp.array([[1, 2], [3, 4]], jnp.uint8).reshape(1, 2, 2, 1)
        >>> crops, inside = crop_and_flip(image, jnp.array([[0, 1]]), jnp.array([True]), pad=1)
        >>> crops[0, :, :, 0].tolist(), inside[0, :, :, 0].tolist()
        ([[0, 0], [2, 1]], [[False, False], [True, True]])
    """
    height, width = pixels.shape[1:3]
    # Which row and column of the image each pixel of the crop shows; out of range in the padding.
    rows = jnp.arange(height) + offsets[:, :1] - pad
    columns = jnp.arange(width)
    columns = jnp.where(mirrored[:, None], width - 1 - columns, columns) + offsets[:, 1:] - pad
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[
        :, None, :
    ]
    inside = inside[..., None]
    if crop is None:
        crops = jax.lax.platform_dependent(
            pixels, rows, columns, cpu=_crop_by_gather, default=_crop_by_onehot
        )
    else:
        crops = {"gather": _crop_by_gather, "onehot": _crop_by_onehot}[crop](pixels, rows, columns)
    return jnp.where(inside, crops, jnp.uint8(0)), inside


def _crop_by_gather(pixels: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    n, height, width, c = pixels.shape
    rows = jnp.clip(rows, 0, height - 1)
    columns = jnp.clip(columns, 0, width - 1)
    positions = (rows[:, :, None] * width + columns[:, None, :]).reshape(n, height * width, 1)
    flat = jnp.take_along_axis(pixels.reshape(n, height * width, c), positions, axis=1)
    return flat.reshape(pixels.shape)


def _crop_by_onehot(pixels: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    height, width = pixels.shape[1:3]
    # Exact: bfloat16 holds every integer up to 256, and each sum has one term that is not zero.
    select_row = jax.nn.one_hot(rows, height, dtype=jnp.bfloat16)
    select_column = jax.nn.one_hot(columns, width, dtype=jnp.bfloat16)
    values = jnp.einsum("nhr,nrwc->nhwc", select_row, pixels.astype(jnp.bfloat16))
    return jnp.einsum("nws,nhsc->nhwc", select_column, values).astype(jnp.uint8)
