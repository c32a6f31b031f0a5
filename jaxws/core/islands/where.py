"""Where a layer with pooled filters is computed: at its images or at its positions.

Every device can have the filters of all pools for little, so that images need not go anywhere. But
where a device has few images they go to the positions all the same: kernels take images side by
side, and few of them fill neither registers nor, on a TPU, memory, whose rows hold 128 images. And
where features are split, what is less is sent: the filters to the images or the images to them.

The numbers are elements that a device sends, if they go around a ring.
"""

from __future__ import annotations

import math

from jaxws.core.islands.layout import Layout
from jaxws.core.window import Window

_FEW_IMAGES = 16


def keeps_images(
    window: Window, channels: int, features: int, filters: int, layout: Layout, images: int
) -> bool:
    """Whether a layer with pooled filters is computed where the images are.

    Args:
      window: its geometry.
      channels: input channels c.
      features: output features f.
      filters: number of weights of all pools.
      layout: of the layer.
      images: number of them on each device.

    Returns:
      False if they go to the positions and come back, as with filters of every position.

    Example:
      >>> from jaxws.core.islands.layout import split_over
      >>> from jaxws.core.window import make_window
      >>> layer = (make_window((56, 56), (3, 3)), 32, 32, 3 * 3 * 3 * 3 * 32 * 32)
      >>> layout = split_over((56, 56), 32, {"data": 1, "h": 4, "w": 2})
      >>> [keeps_images(*layer, layout, images) for images in (32, 4)]
      [True, False]
    """
    if layout.by_position and images < _FEW_IMAGES:
        return False
    # Images go to the positions for the kernel's gradient anyway; outputs would come back, and
    # backwards the sums over features.
    there = outputs_sent(window, features, layout, images)
    there += images_sent(window, channels, layout, images)
    return filters_sent(filters, layout) <= there


def images_sent(window: Window, channels: int, layout: Layout, images: float) -> float:
    """Of images (H, W, c, n) to the positions, or of their gradients back.

    Args:
      window: the layer's geometry.
      channels: input channels c.
      layout: of the layer.
      images: number of them on each device.

    Returns:
      A number of elements.
    """
    parts, shares = layout.size(layout.by_position), layout.size(layout.features)
    # Parts of the features see the same pixels: images are gathered, once they are by position.
    return math.prod(_seen(window, layout)) * channels * images * (moved(parts) + shares - 1)


def outputs_sent(window: Window, features: int, layout: Layout, images: float) -> float:
    """Of outputs (h, w, f, n) from the positions, or of their cotangents to them.

    Args:
      window: the layer's geometry.
      features: output features f.
      layout: of the layer.
      images: number of them on each device.

    Returns:
      A number of elements.
    """
    parts, shares = layout.size(layout.by_position), layout.size(layout.features)
    return math.prod(window.output_size) * features * images * (moved(parts) + moved(shares))


def filters_sent(filters: int, layout: Layout) -> float:
    """Of pooled filters, to have all features of them.

    Args:
      filters: number of weights of all pools.
      layout: of the layer.

    Returns:
      A number of elements.
    """
    return filters * moved(layout.size(layout.features))


def moved(devices: int) -> float:
    """The part of an array that does not stay where it is when devices exchange or gather it.

    Args:
      devices: that take part.

    Returns:
      A fraction.

    Example:
      >>> moved(1), moved(4)
      (0.0, 0.75)
    """
    return (devices - 1) / devices


def _seen(window: Window, layout: Layout) -> list[int]:
    """Per axis, the pixels that all parts of the positions see: those of two parts count twice."""
    seen = []
    sizes = zip(window.input_size, window.output_size, strict=True)
    for axis, (size, positions) in enumerate(sizes):
        parts = layout.parts(axis)
        span = (window.kernel_size[axis] - 1) * window.dilation[axis] + 1
        rows = (positions // parts - 1) * window.strides[axis] + span
        seen.append(size if parts == 1 else parts * rows)
    return seen
