"""Decoding every image of a folder once, to find the corrupt ones and the sizes of the others."""

import collections
import hashlib
import os
import pathlib
from collections.abc import Sequence
from concurrent import futures
from typing import Any, NamedTuple

from jaxws.data.sources.image_files import ImageFile, read_image_file
from jaxws.data.sources.images import UndecodableImageError, inspect_image
from jaxws.data.sources.names import shown
from jaxws.data.sources.tasks import map_in_tasks
from jaxws.system.terminal import track

_CHUNK = 1024


class Checked(NamedTuple):
    """An image file that has been looked at.

    Attributes:
      file: the file.
      defect: why it is no sound image, in words, or ''.
      width: in pixels.
      height: in pixels.
      plain: whether its bytes can be stored as they are, see ``inspect_image``.
      digest: SHA-256 of its bytes, if it is sound.
    """

    file: ImageFile
    defect: str = ""
    width: int = 0
    height: int = 0
    plain: bool = False
    digest: bytes = b""


def check_images(folder: pathlib.Path, files: Sequence[ImageFile], split: str) -> list[Checked]:
    """Decodes all images.

    Args:
      folder: where they are.
      files: the images.
      split: what they are, for the bar.

    Returns:
      What was found, one for each file.

    Raises:
      ValueError: if a file cannot be read.
    """

    def check(file: ImageFile) -> Checked:
        if file.defect:
            return Checked(file, file.defect)
        data = read_image_file(folder, file)
        try:
            return Checked(file, "", *inspect_image(data), hashlib.sha256(data).digest())
        except UndecodableImageError as error:
            return Checked(file, str(error))

    checked: list[Checked] = []
    starts = track(range(0, len(files), _CHUNK), f"Checking {split}", len(files), weight=_CHUNK)
    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in starts:
            checked += map_in_tasks(pool, check, files[start : start + _CHUNK])
    return checked


def count_sizes(images: Sequence[Checked]) -> dict[str, Any]:
    """How many sizes there are, and of the most frequent ones how often and an example.

    Args:
      images: sound images.

    Returns:
      ``distinct_sizes`` and ``common_sizes``, for the metadata of a data set.
    """
    counts = collections.Counter((image.width, image.height) for image in images)
    example = {(image.width, image.height): image.file.name for image in reversed(images)}
    common = [
        f"{width}x{height} ({count} images, {shown(example[width, height])})"
        for (width, height), count in counts.most_common(5)
    ]
    return {"distinct_sizes": len(counts), "common_sizes": common}
