"""Mean and standard deviation by which images are normalised."""

import math

import numpy as np

from jaxws.config.choices import MEAN_STD, check_one_of

# Of ImageNet's training images; the paper normalises TinyImageNet and ImageNet by them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def mean_and_std(images: np.ndarray, mean_std: str) -> tuple[np.ndarray, np.ndarray]:
    """What to normalise a data set by.

    Args:
      images: uint8 ``(N, H, W, c)``, those that are trained on.
      mean_std: 'train' to compute it from them, 'imagenet' for ImageNet's.

    Returns:
      float32 ``(c,)`` mean and standard deviation in [0, 1] units.

    Raises:
      ValueError: if ``mean_std`` is neither, or ImageNet's is asked for images without colours.

    Example:
      >>> import numpy as np
      >>> mean, std = mean_and_std(np.zeros((1, 2, 2, 3), np.uint8), "imagenet")
      >>> [round(float(value), 3) for value in mean]
      [0.485, 0.456, 0.406]
    """
    check_one_of("data.mean_std", mean_std, MEAN_STD)
    if mean_std == "train":
        return channel_statistics(images)
    if images.shape[-1] != len(IMAGENET_MEAN):
        raise ValueError(
            f"data.mean_std 'imagenet' is for images of 3 channels and these have "
            f"{images.shape[-1]}: set --config.data.mean_std=train"
        )
    return np.array(IMAGENET_MEAN, np.float32), np.array(IMAGENET_STD, np.float32)


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel.

    Args:
      images: uint8 ``(N, H, W, c)``.

    Returns:
      float32 ``(c,)`` mean and standard deviation in [0, 1] units, the latter 1 where it would
      be 0.

    Example:
      >>> import numpy as np
      >>> images = np.array([[0, 255], [255, 255]], np.uint8).reshape(2, 1, 1, 2)
      >>> mean, std = channel_statistics(images)
      >>> mean.tolist(), std.tolist()
      ([0.5, 1.0], [0.5, 1.0])
    """
    channels = images.shape[-1]
    rows = images.reshape(len(images), -1)
    total = np.zeros(channels, np.uint64)
    squares = np.zeros(channels, np.uint64)
    # Sums of integers are exact; up to 66,051 squares of a byte fit 32 bits.
    step = min(max(1, 2**22 // rows.shape[1]), 2**16)
    for start in range(0, len(rows), step):
        chunk = rows[start : start + step].astype(np.uint32)
        total += chunk.sum(axis=0, dtype=np.uint64).reshape(-1, channels).sum(axis=0)
        column_squares = np.einsum("np,np->p", chunk, chunk)
        squares += column_squares.astype(np.uint64).reshape(-1, channels).sum(axis=0)
    count = images.size // channels
    mean = total / count / 255
    # In Python's integers, so that the variance of a constant channel is 0 and no rounding error.
    spread = [int(s) * count - int(t) ** 2 for s, t in zip(squares, total, strict=True)]
    std = np.array([math.sqrt(value) / count / 255 if value else 1 for value in spread])
    return mean.astype(np.float32), std.astype(np.float32)
