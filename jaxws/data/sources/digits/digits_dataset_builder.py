"""TFDS builder of the small digits, each placed somewhere on a larger empty canvas.

A network without weight sharing has to learn every digit at every place; a convolution gets that
for free. So this toy task shows what sharing is worth, offline and in seconds.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxws.data.sources.prepare import LocalBuilder

# Change these freely: they are part of the directory name, so no older copy is read by mistake.
CANVAS = 24
TRAIN_FRACTION = 0.8
TRAIN_PLACEMENTS = 1
TEST_PLACEMENTS = 4
SEED = 0

DIGIT_SIZE = 8


@dataclasses.dataclass(eq=False)
class DigitsConfig(tfds.core.BuilderConfig):
    """What varies about the data set; the name follows from the rest.

    Attributes:
      canvas: side of the square images in pixels.
      train_fraction: part of the 1797 digits that goes into the training split.
      train_placements: different places at which each training digit appears.
      test_placements: different places at which each test digit appears.
      seed: seed of the split and of the places.

    Raises:
      ValueError: if the digits do not fit the canvas or a split would be empty.

    Example:
      >>> DigitsConfig(canvas=16).name
      'canvas16_fraction0.8_train1_test4_seed0'
    """

    name: str = ""
    canvas: int = CANVAS
    train_fraction: float = TRAIN_FRACTION
    train_placements: int = TRAIN_PLACEMENTS
    test_placements: int = TEST_PLACEMENTS
    seed: int = SEED

    def __post_init__(self) -> None:
        """Checks the numbers and derives the name."""
        if self.canvas < DIGIT_SIZE:
            raise ValueError(f"canvas is {self.canvas}, expected {DIGIT_SIZE} pixels or more")
        if not 0 < self.train_fraction < 1:
            raise ValueError(f"train_fraction is {self.train_fraction}, expected between 0 and 1")
        places = (self.canvas - DIGIT_SIZE + 1) ** 2
        for field in ("train_placements", "test_placements"):
            if not 1 <= getattr(self, field) <= places:
                raise ValueError(
                    f"{field} is {getattr(self, field)}, expected 1 to {places}, the number of "
                    f"places on a canvas of {self.canvas} pixels: set fewer or a larger canvas"
                )
        self.name = (
            f"canvas{self.canvas}_fraction{self.train_fraction:g}_train{self.train_placements}"
            f"_test{self.test_placements}_seed{self.seed}"
        )
        self.description = f"8x8 digits at random places of a {self.canvas}x{self.canvas} canvas."


class Builder(LocalBuilder):
    """The digits as the TFDS data set 'digits'.

    Example:
      >>> import tempfile
      >>> builder = Builder(data_dir=tempfile.mkdtemp())
      >>> builder.download_and_prepare()
      >>> len(builder.as_data_source("train")), len(builder.as_data_source("test"))
      (1437, 1440)
    """

    # Raise this when the code below places the digits in another way.
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = (DigitsConfig(),)

    def _info(self) -> tfds.core.DatasetInfo:
        side = self.builder_config.canvas
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(side, side, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=10),
                    "digit": tfds.features.Scalar(np.int32, doc="Which of the 1797 it is."),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, Sequence[Any]]:
        return {
            split: [functools.partial(_examples, split, self.builder_config)]
            for split in ("train", "test")
        }


@functools.cache
def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """The digits as they come, before they are placed.

    Returns:
      uint8 ``(1797, 8, 8)`` images, 0 (paper) to 255 (ink), and uint8 ``(1797,)`` labels.

    Example:
      >>> images, labels = load_digits()
      >>> images.shape, int(images.max()), labels[:5].tolist()
      ((1797, 8, 8), 255, [0, 1, 2, 3, 4])
    """
    with np.load(pathlib.Path(__file__).with_name("digits.npz")) as file:
        return file["images"], file["labels"]


def draw_split(split: str, config: DigitsConfig) -> tuple[np.ndarray, np.ndarray]:
    """What a copy prepared by TFDS would hold, in the same order, without one.

    Args:
      split: 'train' or 'test'.
      config: what varies about the data set.

    Returns:
      uint8 ``(N, canvas, canvas)`` images and int64 ``(N,)`` labels.

    Example:
      >>> images, labels = draw_split("train", DigitsConfig())
      >>> images.shape, labels.shape
      ((1437, 24, 24), (1437,))
    """
    digits, _, canvases = zip(*_draw(split, config), strict=True)
    return np.stack(canvases), load_digits()[1][list(digits)].astype(np.int64)


def _draw(split: str, config: DigitsConfig) -> Iterator[tuple[int, int, np.ndarray]]:
    """Which digit, the number of its place, and the canvas with it there."""
    images = load_digits()[0]
    order = np.random.default_rng(config.seed).permutation(len(images))
    train, test = np.split(order, [int(config.train_fraction * len(order))])
    digits, placements = {
        "train": (train, config.train_placements),
        "test": (test, config.test_placements),
    }[split]
    for digit in digits.tolist():
        for number, (row, column) in enumerate(_places(digit, placements, config)):
            canvas = np.zeros((config.canvas, config.canvas), np.uint8)
            canvas[row : row + DIGIT_SIZE, column : column + DIGIT_SIZE] = images[digit]
            yield digit, number, canvas


def _examples(split: str, config: DigitsConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    labels = load_digits()[1]
    for digit, number, canvas in _draw(split, config):
        # A PIL image: TFDS needs TensorFlow to encode an array.
        example = {
            "image": Image.fromarray(canvas),
            "label": int(labels[digit]),
            "digit": digit,
        }
        yield f"{digit}-{number}", example


def _places(digit: int, placements: int, config: DigitsConfig) -> list[tuple[int, int]]:
    # Seeded by the digit, so that its places do not depend on the split or on their number.
    side = config.canvas - DIGIT_SIZE + 1
    chosen = np.random.default_rng((config.seed, digit)).permutation(side * side)[:placements]
    return [divmod(place, side) for place in chosen.tolist()]
