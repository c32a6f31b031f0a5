"""Reading a prepared TFDS data set, as a whole, into uint8 arrays.

The images are decoded here and not by TFDS, which takes another decoder (with slightly other
pixels) on machines that have OpenCV, and cannot resize. Large sets leave a decoded copy beside the
prepared data, so that only the first start has to decode.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from concurrent import futures

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from jaxws.data.sources.bounded import ZIP_ERRORS, check_npz
from jaxws.data.sources.features import feature_keys
from jaxws.data.sources.images import UndecodableImageError, decode_image, fit_image
from jaxws.data.sources.tasks import map_in_tasks
from jaxws.system.atomic import replacing
from jaxws.system.terminal import track

# Decoded pixels that still fit in the memory of a device beside a network.
MAX_BYTES = 8 * 1024**3
# Below this many pixels, decoding takes less time than is worth a file.
CACHE_FROM_BYTES = 16 * 1024**2
# Raise this when the same file would be decoded to other pixels than before.
_DECODER = 1
_CHUNK = 1024


class NotOneArrayError(ValueError):
    """The images of a data set cannot be one array in memory: they are too many, or differ."""


def read_split(
    builder: tfds.core.DatasetBuilder, split: str, image_size: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Reads and decodes all images of a split.

    Args:
      builder: a prepared data set with an image and a label, stored as array_record.
      split: name of the split.
      image_size: resize the shorter side to this many pixels and crop the centre; None keeps
        the images as they are, which must then have one size.

    Returns:
      uint8 ``(N, H, W, c)`` images and int64 ``(N,)`` labels, in the order of the records.

    Raises:
      NotOneArrayError: if the images differ in size or do not fit in memory.
      ValueError: if the files are damaged.
    """
    image_key, _ = feature_keys(builder)
    channels = builder.info.features[image_key].shape[-1] or 3
    total = builder.info.splits[split].num_examples
    cache = pathlib.Path(builder.data_dir) / f"decoded{_DECODER}-{split}-{image_size or 'full'}.npz"
    arrays = _read_cache(cache, total, image_size, channels)
    if arrays is None:
        arrays = _decode_split(builder, split, image_size, channels)
        if arrays[0].nbytes >= CACHE_FROM_BYTES:
            _write_cache(cache, *arrays)
    return arrays


def check_bytes(name: str, images: int, image_bytes: int) -> None:
    """Refuses a data set whose decoded pixels do not fit on a device.

    Args:
      name: name of the data set, for the message.
      images: number of images, of all splits.
      image_bytes: pixels of one image, times its channels.

    Raises:
      NotOneArrayError: if they are more than ``MAX_BYTES``.

    Example:
      >>> check_bytes("cifar10", 60_000, 32 * 32 * 3)
    """
    if images * image_bytes > MAX_BYTES:
        raise NotOneArrayError(
            f"data set {name!r} has {images} images of {image_bytes} bytes when decoded, "
            f"{images * image_bytes / 1024**3:.1f} GiB, expected {MAX_BYTES / 1024**3:g} GiB or "
            "less, as the whole of it is held on each device: set a smaller "
            "--config.data.image_size or use fewer images"
        )


def _decode_split(
    builder: tfds.core.DatasetBuilder, split: str, image_size: int | None, channels: int
) -> tuple[np.ndarray, np.ndarray]:
    image_key, label_key = feature_keys(builder)
    total = builder.info.splits[split].num_examples
    labels = np.empty(total, np.int64)
    images = None

    def pixels(record: dict[str, bytes]) -> np.ndarray:
        return fit_image(decode_image(record[image_key], channels), image_size)

    with _damage_explained(builder), futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        source = builder.as_data_source(split, decoders={image_key: tfds.decode.SkipDecoding()})
        chunks = track(range(0, total, _CHUNK), f"Decoding {split}", total, weight=_CHUNK)
        for start in chunks:
            records = source.__getitems__(range(start, min(start + _CHUNK, total)))
            decoded = list(map_in_tasks(pool, pixels, records))
            if images is None:
                everything = sum(info.num_examples for info in builder.info.splits.values())
                check_bytes(builder.name, everything, decoded[0].nbytes)
                images = np.empty((total, *decoded[0].shape), np.uint8)
            _check_shapes(builder.info.full_name, images.shape[1:], decoded)
            images[start : start + len(records)] = decoded
            labels[start : start + len(records)] = [record[label_key] for record in records]
    if images is None:
        raise ValueError(f"split {split!r} of {builder.info.full_name!r} has no images")
    return images, labels


def _check_shapes(name: str, shape: tuple[int, ...], decoded: list[np.ndarray]) -> None:
    for pixels in decoded:
        if pixels.shape != shape:
            sizes = [f"{width}x{height}" for height, width in (shape[:2], pixels.shape[:2])]
            raise NotOneArrayError(
                f"images of data set {name!r} differ in size ({sizes[0]} and {sizes[1]} pixels), "
                "expected one size: set --config.data.image_size=SIZE to resize and crop them"
            )


@contextlib.contextmanager
def _damage_explained(builder: tfds.core.DatasetBuilder) -> Iterator[None]:
    try:
        yield
    # array_record reports damage as IndexError, RuntimeError, ValueError from absl::Status, ...
    except (OSError, RuntimeError, IndexError, UndecodableImageError) as error:
        raise ValueError(
            f"the prepared data in {builder.data_dir} cannot be read ({error}): delete that "
            "directory and prepare the data set anew"
        ) from error


def _read_cache(
    file: pathlib.Path, total: int, image_size: int | None, channels: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """The arrays of a cache file, or None if there is none or it is not what was written."""
    try:
        with file.open("rb") as stream:
            check_npz(stream, MAX_BYTES + 8 * total)
            with np.load(stream) as arrays:  # Checks a CRC of each.
                images, labels = arrays["images"], arrays["labels"]
    except FileNotFoundError:
        return None
    except ZIP_ERRORS as error:
        logging.warning("Decoding again: the copy in %s is damaged (%s)", file, error)
        return None
    size = images.shape[1:3] if image_size is None else (image_size, image_size)
    sound = images.shape == (total, *size, channels) and labels.shape == (total,)
    if not sound or images.dtype != np.uint8 or labels.dtype != np.int64:
        logging.warning("Decoding again: the copy in %s is of other data", file)
        return None
    return images, labels


def _write_cache(file: pathlib.Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Writes a cache file, whole or not at all; without a word where that is not possible."""
    try:
        with replacing(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, images=images, labels=labels)
    except OSError as error:
        # A directory of somebody else, or a full disk: the next start decodes again.
        logging.info("No decoded copy was kept in %s: %s", file, error)
