"""How a repeated k x k pattern falls on the filters of a layer, and which neurons it ties.

The pattern has the size of the kernel, so a filter sees all of it, cyclically shifted by where its
receptive field begins. Neurons k positions apart see the same shift, whatever the stride: they are
a pool.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Int

from jaxws.core.window import LayerWindow, Window, make_window

Array: TypeAlias = Any  # of NumPy or JAX


class Tiling(NamedTuple):
    """The pools of a layer and what each of them sees of a pattern.

    Attributes:
      periods: number of pools per position axis: the kernel size.
      groups: of features, each with input channels of its own.
      entries: shape (pools, i * j * c / groups): which entry of the pattern a weight of a filter
        meets, both counted over (i, j, c).
      pooled: shape (pools, neurons): whether there is such a neuron, and it takes part.
    """

    periods: tuple[int, ...]
    groups: int
    entries: Int[np.ndarray, "pools inputs"]
    pooled: Bool[np.ndarray, "pools N"]


def make_tiling(
    path: str, shape: tuple[int, ...], layer: LayerWindow | None, leave_out_borders: bool
) -> Tiling:
    """Lays a repeated pattern over the input of a layer.

    Args:
      path: of the layer, for messages.
      shape: of its kernel, (h, w, i, j, c / groups, f), or likewise in 1-D and 3-D.
      layer: its window and groups; None for stride 1, no padding and one group.
      leave_out_borders: whether neurons whose receptive field is padded take no part.

    Returns:
      The pools, and what they see.

    Raises:
      ValueError: a kernel that is larger than its layer, or whose dilation shares a factor with
        its size; a window of another layer.

    Example:
      >>> tiling = make_tiling("conv1", (4, 2, 1, 1), None, False)  # 1-D, kernel size 2
      >>> tiling.entries.tolist(), tiling.pooled.tolist()
      ([[0, 1], [1, 0]], [[True, True], [True, True]])
    """
    ndim = len(shape) // 2 - 1
    positions, kernel_size, channels = shape[:ndim], shape[ndim : 2 * ndim], shape[-2]
    if any(k > size for k, size in zip(kernel_size, positions, strict=True)):
        raise ValueError(
            f"layer {path!r} has a kernel of size {kernel_size} and {positions} positions: no two"
            " neurons see the same part of a pattern of the kernel's size; use larger images, leave"
            " such layers out of params, or share weights at once."
        )
    window, groups = _window(path, positions, kernel_size, layer)
    if shape[-1] % groups:
        raise ValueError(f"layer {path!r} has {shape[-1]} features: expected {groups} groups.")
    offsets = [_offsets(window, axis) for axis in range(ndim)]
    taking_part = np.ones(positions, bool)
    if leave_out_borders:
        for axis in range(ndim):
            along = [-1 if a == axis else 1 for a in range(ndim)]
            taking_part &= _inside(window, axis).reshape(along)
    entries = _entries(offsets, kernel_size, channels)
    return Tiling(kernel_size, groups, entries, by_pool(taking_part, kernel_size, np.pad))


def _window(
    path: str, positions: tuple[int, ...], kernel_size: tuple[int, ...], layer: LayerWindow | None
) -> tuple[Window, int]:
    if layer is None:
        size = tuple(p + k - 1 for p, k in zip(positions, kernel_size, strict=True))
        return make_window(size, kernel_size, padding="VALID"), 1
    window = layer.window
    if (window.output_size, window.kernel_size) != (positions, kernel_size):
        raise ValueError(
            f"windows[{path!r}] has {window.output_size} positions and kernel size"
            f" {window.kernel_size}, but the layer {positions} and {kernel_size}: give those of the"
            " same network and image size, by jaxws.layer_windows(model, image_shape)."
        )
    if any(math.gcd(d, k) > 1 for d, k in zip(window.dilation, kernel_size, strict=True)):
        raise ValueError(
            f"layer {path!r} has dilation {window.dilation} and kernel size {kernel_size}: a filter"
            " would see some entries of a repeated pattern twice and others never; expected no"
            " common factor."
        )
    return window, layer.groups


def _offsets(window: Window, axis: int) -> Int[np.ndarray, "k k"]:
    """Where in the pattern the inputs of each pool lie along one axis: (pools, kernel offsets)."""
    k = window.kernel_size[axis]
    begin = np.arange(k) * window.strides[axis] - window.padding[axis][0]
    return (begin[:, None] + np.arange(k) * window.dilation[axis]) % k


def _inside(window: Window, axis: int) -> Bool[np.ndarray, "positions"]:
    """Which positions along one axis see no padding."""
    begin = np.arange(window.output_size[axis]) * window.strides[axis] - window.padding[axis][0]
    end = begin + (window.kernel_size[axis] - 1) * window.dilation[axis]
    return (begin >= 0) & (end < window.input_size[axis])


def _entries(
    offsets: list[np.ndarray], kernel_size: tuple[int, ...], channels: int
) -> Int[np.ndarray, "pools inputs"]:
    ndim = len(offsets)
    total = np.zeros((1,) * (2 * ndim), np.intp)
    for axis, (table, k) in enumerate(zip(offsets, kernel_size, strict=True)):
        along = [1] * (2 * ndim)
        along[axis], along[ndim + axis] = k, k
        total = total * k + table.reshape(along)
    entries = total[..., None] * channels + np.arange(channels)
    return entries.reshape(math.prod(kernel_size), -1)


def by_pool(values: Array, periods: tuple[int, ...], pad: Callable[..., Array]) -> Array:
    """Gathers the positions of each pool.

    Args:
      values: shape (h, w, ...), of NumPy or JAX.
      periods: number of pools per position axis.
      pad: ``np.pad`` or ``jnp.pad``; pools that are smaller than others are filled up with zeros.

    Returns:
      Shape (pools, neurons of a pool, ...).

    Example:
      >>> by_pool(np.arange(1, 6), (2,), np.pad).tolist()
      [[1, 3, 5], [2, 4, 0]]
    """
    ndim, rest = len(periods), values.shape[len(periods) :]
    blocks = _blocks(values.shape, periods)
    fill = [(0, p * b - size) for size, p, b in zip(values.shape, periods, blocks, strict=False)]
    split = [number for pair in zip(blocks, periods, strict=True) for number in pair]
    values = pad(values, fill + [(0, 0)] * len(rest)).reshape(*split, *rest)
    order = [*range(1, 2 * ndim, 2), *range(0, 2 * ndim, 2), *range(2 * ndim, values.ndim)]
    return values.transpose(order).reshape(math.prod(periods), math.prod(blocks), *rest)


def by_position(values: Array, periods: tuple[int, ...], positions: tuple[int, ...]) -> Array:
    """The inverse of :func:`by_pool`.

    Args:
      values: shape (pools, neurons of a pool, ...).
      periods: number of pools per position axis.
      positions: (h, w), or likewise.

    Returns:
      Shape (h, w, ...).

    Example:
      >>> by_position(np.array([[1, 3, 5], [2, 4, 0]]), (2,), (5,)).tolist()
      [1, 2, 3, 4, 5]
    """
    ndim, rest = len(periods), values.shape[2:]
    blocks = _blocks(positions, periods)
    values = values.reshape(*periods, *blocks, *rest)
    order = [axis for a in range(ndim) for axis in (ndim + a, a)]
    values = values.transpose(*order, *range(2 * ndim, values.ndim))
    filled = [p * b for p, b in zip(periods, blocks, strict=True)]
    return values.reshape(*filled, *rest)[tuple(map(slice, positions))]


def _blocks(positions: tuple[int, ...], periods: tuple[int, ...]) -> tuple[int, ...]:
    """The number of neurons of the largest pool, per position axis."""
    return tuple(-(-size // p) for size, p in zip(positions, periods, strict=False))
