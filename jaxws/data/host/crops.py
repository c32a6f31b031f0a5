"""Where the crops of ImageNet lie: torchvision's random-resized-crop and its resize and centre.

Only numbers: boxes in pixels, from sizes and draws. The random boxes have the distribution of
torchvision's ``RandomResizedCrop``, not its stream of random numbers.
"""

from __future__ import annotations

import math

import numpy as np

Box = tuple[int, int, int, int]

SCALE = (0.08, 1.0)  # of the image's area
RATIO = (3 / 4, 4 / 3)  # width to height
TRIES = 10
# Uniform numbers that a box takes: area and shape of each try, and the place.
DRAWS = 2 * TRIES + 2
# Evaluation resizes the shorter side to this many times the crop's: 256 for 224.
RESIZE = 256 / 224


def random_box(uniform: np.ndarray, width: int, height: int) -> Box:
    """A box for a random-resized-crop.

    Its area is a uniform part of the image's and the logarithm of its shape uniform, at a uniform
    place; ten tries to fit it into the image, then the largest box of an allowed shape in the
    centre.

    Args:
      uniform: ``(DRAWS,)`` independent uniform numbers in [0, 1).
      width: of the image, in pixels.
      height: of the image, in pixels.

    Returns:
      Left, upper, right and lower edge.

    Example:
      >>> random_box(np.zeros(DRAWS), 400, 300)
      (0, 0, 85, 113)
    """
    areas = width * height * (SCALE[0] + (SCALE[1] - SCALE[0]) * uniform[0 : 2 * TRIES : 2])
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    shapes = low + (high - low) * uniform[1 : 2 * TRIES : 2]
    for area, log_shape in zip(areas.tolist(), shapes.tolist(), strict=True):
        shape = math.exp(log_shape)
        w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < w <= width and 0 < h <= height:
            left = int(uniform[-1] * (width - w + 1))
            upper = int(uniform[-2] * (height - h + 1))
            return left, upper, left + w, upper + h
    return _central_box(width, height)


def _central_box(width: int, height: int) -> Box:
    w = min(width, max(1, round(height * RATIO[1])))
    h = min(height, max(1, round(width / RATIO[0])))
    left, upper = (width - w) // 2, (height - h) // 2
    return left, upper, left + w, upper + h


def resized_shape(width: int, height: int, shorter: int) -> tuple[int, int]:
    """Width and height once the shorter side has ``shorter`` pixels; the longer is rounded down.

    Example:
      >>> resized_shape(500, 375, 256)
      (341, 256)
    """
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


def centre_box(width: int, height: int, size: int) -> Box:
    """The box of ``size`` x ``size`` in the centre, halves of pixels rounded to even.

    Example:
      >>> centre_box(341, 256, 224)
      (58, 16, 282, 240)
    """
    left, upper = round((width - size) / 2), round((height - size) / 2)
    return left, upper, left + size, upper + size
