"""Photographs of the size of ImageNet's, made from the two that scikit-learn brings along."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxws.data.sources.prepare import LocalBuilder, prepare

# Of twenty images: mean 469x400, like the training images of ImageNet (468x401).
SIZES = [(500, 375)] * 12 + [(375, 500)] * 3 + [(500, 333)] * 2 + [(333, 500)] + [(455, 420)] * 2
MEAN_BYTES = 110_000  # of a file of ImageNet


def photographs(number: int, seed: int = 0) -> list[bytes]:
    """Cuts parts out of the two photographs and compresses them to the mean size of ImageNet's.

    Args:
      number: of images.
      seed: of the parts.

    Returns:
      JPEG files.
    """
    from sklearn.datasets import load_sample_images  # noqa: PLC0415 - of the extra `test`

    sources = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    rng = np.random.default_rng(seed)
    images = [_part(sources[i % 2], SIZES[i % len(SIZES)], rng) for i in range(number)]
    some = images[: 2 * len(SIZES)]
    qualities = range(70, 100)
    sizes = [np.mean([len(_jpeg(image, quality)) for image in some]) for quality in qualities]
    quality = qualities[int(np.argmin(np.abs(np.array(sizes) - MEAN_BYTES)))]
    return [_jpeg(image, quality) for image in images]


def describe(files: list[bytes]) -> dict[str, Any]:
    """Mean sizes of images, for the report."""
    shapes = np.array([Image.open(io.BytesIO(data)).size for data in files])
    return {
        "number": len(files),
        "mean_width": float(shapes[:, 0].mean()),
        "mean_height": float(shapes[:, 1].mean()),
        "mean_bytes": float(np.mean([len(data) for data in files])),
        "source": "parts of sklearn.datasets.load_sample_images(); no image of ImageNet",
    }


def _part(source: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """A random part of a given shape, at least 0.8 of the largest one, resized and mirrored."""
    scale = rng.uniform(0.8, 1) * min(source.width / size[0], source.height / size[1])
    width, height = scale * size[0], scale * size[1]
    left, upper = rng.uniform(0, source.width - width), rng.uniform(0, source.height - height)
    box = (left, upper, left + width, upper + height)
    part = source.resize(size, Image.Resampling.LANCZOS, box=box)
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part


def _jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "jpeg", quality=quality)
    return file.getvalue()


class Photographs(LocalBuilder, skip_registration=True):  # type: ignore[call-arg]
    """The images as a data set under the name of ImageNet, `train` and `validation` alike."""

    VERSION = tfds.core.Version("5.1.0")
    name = "imagenet2012"

    def __init__(self, *, files: list[bytes], **kwargs: Any):
        """Notes the images."""
        self.files = files
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(num_classes=1000),
            "file_name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, Any]:
        return {split: [self.examples] for split in ("train", "validation")}

    def examples(self) -> Any:
        """The records of a split."""
        for i, data in enumerate(self.files):
            yield i, {"image": io.BytesIO(data), "label": i % 1000, "file_name": f"{i}.JPEG"}


def prepare_photographs(files: list[bytes], data_dir: str) -> tfds.core.DatasetBuilder:
    """Prepares them on disk, as array_record."""
    return prepare(Photographs(files=files, data_dir=data_dir))
