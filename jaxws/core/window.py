"""Windows: from kernel size, strides, padding and dilation to the grid of output positions.

Every locally connected layer has one filter per output position, so the number of positions is part
of the shape of its weights. This module computes it, once, for the functions, the layers and the
models alike.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import jax
import numpy as np
from jax import lax

Int: TypeAlias = int | np.integer
Ints: TypeAlias = Sequence[Int] | np.ndarray
Padding: TypeAlias = str | Int | Ints | Sequence[Int | Sequence[Int]]


_BY_NAME = ("SAME", "SAME_LOWER", "VALID", "CIRCULAR", "REFLECT", "CAUSAL")
# What stands beyond the border where it is not zeros: names of Flax and of jax.numpy.pad.
_CONTINUED = {"CIRCULAR": "wrap", "REFLECT": "reflect"}


class Window(NamedTuple):
    """A window sliding over an image, one entry per spatial axis.

    Attributes:
      input_size: image size, before padding.
      kernel_size: number of kernel offsets.
      strides: distance between neighbouring output positions, in pixels.
      padding: pixels put before and after the image, as ``(low, high)`` pairs.
      dilation: distance between neighbouring kernel offsets, in pixels.
      output_size: number of output positions.
    """

    input_size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    output_size: tuple[int, ...]


class LayerWindow(NamedTuple):
    """Geometry of a locally connected layer.

    Attributes:
      window: image and kernel size, strides, padding, dilation, positions.
      groups: its ``feature_group_count``.
    """

    window: Window
    groups: int


def make_window(
    input_size: Ints,
    kernel_size: Ints,
    strides: Int | Ints = 1,
    padding: Padding = "SAME",
    dilation: Int | Ints = 1,
) -> Window:
    """Checks the geometry of a layer and computes its grid of output positions.

    Args:
      input_size: image size in pixels, one number per spatial axis.
      kernel_size: kernel size, one number per spatial axis.
      strides: an int, or one per spatial axis.
      padding: ``'SAME'``, ``'SAME_LOWER'`` or ``'VALID'`` (XLA's meaning: at stride 2, ``'SAME'``
        is not PyTorch's ``(k - 1) // 2``), ``'CIRCULAR'``, ``'REFLECT'`` or ``'CAUSAL'`` (1-D), as
        in ``nn.Conv``; an int, or per spatial axis an int or a ``(low, high)`` pair.
      dilation: an int, or one per spatial axis.

    Returns:
      A :class:`Window` with every field spelled out per axis.

    Raises:
      ValueError: a field of the wrong length or sign, or a kernel larger than the padded image.

    Example:
      >>> make_window((32, 32), (3, 3), strides=2, padding=1).output_size
      (16, 16)
      >>> make_window((32, 32), (3, 3), strides=2, padding="SAME").padding
      ((0, 1), (0, 1))
    """
    image = tuple(map(operator.index, input_size))
    kernel = tuple(map(operator.index, kernel_size))
    ndim = len(image)
    if len(kernel) != ndim or any(k < 1 for k in kernel):
        raise ValueError(
            f"kernel_size={kernel}: expected {ndim} positive numbers, one per spatial axis of"
            f" an image of size {image}."
        )
    steps = per_axis("strides", strides, ndim)
    spread = per_axis("dilation", dilation, ndim)
    span = tuple((k - 1) * d + 1 for k, d in zip(kernel, spread, strict=True))
    pairs = _padding_pairs(padding, image, span, steps)
    output_size = tuple(
        (size + low + high - s) // stride + 1
        for size, (low, high), s, stride in zip(image, pairs, span, steps, strict=True)
    )
    if any(size < 1 for size in output_size):
        raise ValueError(
            f"a kernel of size {kernel} with dilation {spread} spans {span} pixels and does"
            f" not fit into an image of size {image} padded by {pairs}: use a larger image, a"
            " smaller kernel or more padding."
        )
    return Window(image, kernel, steps, pairs, spread, output_size)


def continuation(padding: Padding) -> str | None:
    """What pixels beyond the border are, where they are not zeros.

    Args:
      padding: as in :func:`make_window`.

    Returns:
      The mode of :func:`jax.numpy.pad`, or None for zeros.

    Example:
      >>> continuation("CIRCULAR"), continuation("SAME")
      ('wrap', None)
    """
    return _CONTINUED.get(padding.upper()) if isinstance(padding, str) else None


def dilated_size(image_size: Ints, input_dilation: Int | Ints = 1) -> tuple[int, ...]:
    """The size of an image between whose pixels zeros are put.

    Args:
      image_size: in pixels, one number per spatial axis.
      input_dilation: distance between neighbouring pixels afterwards, an int or one per axis.

    Returns:
      One number per spatial axis.

    Raises:
      ValueError: a dilation of the wrong length, or one that is not positive.

    Example:
      >>> dilated_size((4, 5), 2)
      (7, 9)
    """
    steps = per_axis("input_dilation", input_dilation, len(image_size))
    return tuple(max((n - 1) * s + 1, 0) for n, s in zip(image_size, steps, strict=True))


def dilate(images: jax.Array, input_dilation: Int | Ints) -> jax.Array:
    """Puts zeros between pixels.

    Args:
      images: shape (H, W, c, n), or likewise in 1-D and 3-D.
      input_dilation: as in :func:`dilated_size`.

    Returns:
      Images of that size.

    Example:
      >>> dilate(jax.numpy.ones((3, 1, 1)), 2).ravel().tolist()
      [1.0, 0.0, 1.0, 0.0, 1.0]
    """
    steps = per_axis("input_dilation", input_dilation, images.ndim - 2)
    if all(step == 1 for step in steps):
        return images
    interior = [(0, 0, step - 1) for step in steps]
    zero = jax.numpy.zeros((), images.dtype)
    return lax.pad(images, zero, [*interior, (0, 0, 0), (0, 0, 0)])


def per_axis(name: str, value: Int | Ints, ndim: int) -> tuple[int, ...]:
    """Spells out an argument that is one number for all spatial axes or one for each.

    Args:
      name: of the argument, for the message.
      value: a positive int or ``ndim`` of them.
      ndim: number of spatial axes.

    Returns:
      One int per axis.

    Raises:
      ValueError: another number of them, or one that is not positive.

    Example:
      >>> per_axis("strides", 2, ndim=2)
      (2, 2)
    """
    entries = (value,) * ndim if isinstance(value, int | np.integer) else value
    values = tuple(map(operator.index, entries))
    if len(values) != ndim or any(v < 1 for v in values):
        raise ValueError(
            f"{name}={value!r}: expected a positive int or {ndim} of them, one per spatial axis."
        )
    return values


def _padding_pairs(
    padding: Padding, input_size: tuple[int, ...], span: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    ndim = len(input_size)
    if isinstance(padding, str):
        if padding.upper() not in _BY_NAME:
            names = ", ".join(map(repr, _BY_NAME))
            raise ValueError(
                f"padding={padding!r}: expected {names}, an int or {ndim} (low, high) pairs."
            )
        return _named_pairs(padding.upper(), input_size, span, strides)
    entries = (padding,) * ndim if isinstance(padding, int | np.integer) else tuple(padding)
    pairs = tuple((p, p) if isinstance(p, int | np.integer) else tuple(p) for p in entries)
    if len(pairs) != ndim or any(len(p) != 2 or min(p) < 0 for p in pairs):
        raise ValueError(
            f"padding={padding!r}: expected a name, a non-negative int or {ndim} entries,"
            " each an int or a (low, high) pair of non-negative ints."
        )
    return tuple((operator.index(low), operator.index(high)) for low, high in pairs)


def _named_pairs(
    name: str, input_size: tuple[int, ...], span: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    unseen = [s - 1 for s in span]  # positions that no padding would lose
    if name in _CONTINUED:
        return tuple((lost // 2, lost - lost // 2) for lost in unseen)
    if name == "CAUSAL":
        if len(span) != 1:
            raise ValueError(
                f"padding='CAUSAL' is for 1-D layers: expected another for an image of size"
                f" {input_size}."
            )
        return ((unseen[0], 0),)
    computed = lax.padtype_to_pads(input_size, span, strides, name)
    return tuple((int(low), int(high)) for low, high in computed)
