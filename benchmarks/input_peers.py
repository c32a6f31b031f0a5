"""What the input pipeline is compared with: a plain loop over Pillow, and tf.data."""

from __future__ import annotations

import importlib.util
import io
import math
import random
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

SIZE = 224


def plain_loop(files: list[bytes], batch: int) -> Iterator[np.ndarray]:
    """Decode, random-resized-crop and flip with Pillow, as data sets of torchvision do."""
    while True:
        yield np.stack([_torchvision_style(random.choice(files)) for _ in range(batch)])


def _torchvision_style(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = image.size
    for _ in range(10):
        area = random.uniform(0.08, 1) * width * height
        shape = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if w <= width and h <= height:
            break
    else:
        w = h = min(width, height)
    left, upper = random.randint(0, width - w), random.randint(0, height - h)
    image = image.crop((left, upper, left + w, upper + h))
    image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(image)


def has_tensorflow() -> bool:
    """Whether tf.data can be measured here."""
    return importlib.util.find_spec("tensorflow") is not None


def tf_data(files: list[bytes], batch: int, threads: int, antialias: bool) -> Iterator[Any]:
    """The same by tf.data, decoding only the part that the crop needs."""
    import tensorflow as tf  # noqa: PLC0415 - not installed by default

    def view(data: Any) -> Any:
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(data),
            tf.zeros((1, 0, 4)),
            min_object_covered=0,
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(0.08, 1),
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([begin[:2], size[:2]], axis=0)
        image = tf.image.decode_and_crop_jpeg(data, window, channels=3)
        image = tf.image.resize(image[None], (SIZE, SIZE), antialias=antialias)[0]
        return tf.image.random_flip_left_right(tf.cast(tf.round(image), tf.uint8))

    dataset = tf.data.Dataset.from_tensor_slices(files).repeat().shuffle(len(files))
    dataset = dataset.map(view, num_parallel_calls=threads).batch(batch).prefetch(1)
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    return dataset.with_options(options).as_numpy_iterator()


def images_per_second(batches: Iterator[Any], batch: int, seconds: float, skip: int = 2) -> float:
    """Rate of an iterator over batches.

    Args:
      batches: to be measured.
      batch: images of each.
      seconds: for how long, at least.
      skip: batches that are not counted, as they may have been made before.
    """
    for _ in range(skip):
        next(batches)
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        next(batches)
        count += batch
    return count / (time.perf_counter() - begin)
