"""ImageNet (ILSVRC 2012) as TFDS's official data set, prepared without TensorFlow.

Name, version, features, order, labels and bytes are those of TFDS's own builder, whose class this
extends. The tars are walked once for the places of the images, and those are then read in the order
in which they are written: nothing is unpacked.

It differs from TFDS's in four things. The validation tar is not needed for the training split. A
validation image gets the label of the number in its name, which holds for part of a tar too. Images
that are not RGB or grayscale JPEGs (22 CMYK and one PNG) are converted by Pillow. The test images,
which have no labels, are left out.
"""

import io
import os
import pathlib
import re
import tarfile
import weakref
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.datasets.imagenet2012 import imagenet2012_dataset_builder as official

from jaxws.data.sources.bounded import (
    MOST_IMAGE_BYTES,
    TAR_ERRORS,
    BoundedFile,
    check_member,
    walk_bounds,
)
from jaxws.data.sources.images import UndecodableImageError, decode_image
from jaxws.data.sources.shuffled import Records, ShuffledBuilder
from jaxws.system.terminal import track

TRAIN_TAR = "ILSVRC2012_img_train.tar"
VALIDATION_TAR = "ILSVRC2012_img_val.tar"
_VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


class Builder(ShuffledBuilder, official.Builder, skip_registration=True):  # type: ignore[call-arg]
    """TFDS's 'imagenet2012' from tars at hand, whole or with part of the images.

    Args:
      archive: a directory with ``ILSVRC2012_img_train.tar`` and, unless only the training split
        is wanted, ``ILSVRC2012_img_val.tar``.
      **kwargs: Those of ``tfds.core.DatasetBuilder``, such as ``data_dir``.
    """

    name = "imagenet2012"
    pkg_dir_path = tfds.core.tfds_path("datasets/imagenet2012")

    def __init__(self, archive: pathlib.Path, **kwargs: Any) -> None:
        """Notes where the tars are; they are opened when the data set is prepared."""
        self._directory = archive
        super().__init__(**kwargs)

    def _records(self) -> dict[str, Records]:
        classes = set(self.info.features["label"].names)
        path = self._directory / TRAIN_TAR
        splits = {"train": _records(path, list(_train_images(path, classes)))}
        path = self._directory / VALIDATION_TAR
        if path.is_file():
            splits["validation"] = _records(path, list(_validation_images(path)))
        return splits


class _Place(NamedTuple):
    """Where an image lies: its name, its class, and its bytes in the tar."""

    name: str
    label: str
    offset: int
    size: int


def _train_images(path: pathlib.Path, classes: set[str]) -> Iterator[_Place]:
    """The images of a tar that holds a tar for each class."""
    with path.open("rb") as file:
        outer = list(_members(path, path.name, file, 0))
        for member, offset in track(outer, "Looking into the classes", len(outer)):
            label = pathlib.PurePosixPath(member.name).name.removesuffix(".tar")
            if label not in classes:
                raise ValueError(
                    f"{member.name} in {path} is not the tar of one of the {len(classes)} classes, "
                    "such as n01440764.tar: it is not the official archive"
                )
            inner = f"{member.name} in {path}"
            for image, place in _members(path, inner, file, offset, member.size, MOST_IMAGE_BYTES):
                yield _Place(os.path.normpath(image.name), label, place, image.size)


def _validation_images(path: pathlib.Path) -> Iterator[_Place]:
    labels = tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt")
    by_number = labels.read_text().split()
    with path.open("rb") as file:
        for member, offset in _members(path, path.name, file, 0, most=MOST_IMAGE_BYTES):
            name = os.path.normpath(member.name)
            match = _VALIDATION_NAME.fullmatch(name)
            if not match or not 1 <= int(match[1]) <= len(by_number):
                raise ValueError(
                    f"{name} in {path} is not a validation image, such as "
                    "ILSVRC2012_val_00000001.JPEG: it is not the official archive"
                )
            yield _Place(name, by_number[int(match[1]) - 1], offset, member.size)


def _members(
    path: pathlib.Path,
    what: str,
    file: IO[bytes],
    start: int,
    size: int | None = None,
    most: int | None = None,
) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Files of the tar that begins at ``start``, and where their bytes begin in ``file``."""
    whole = path.stat().st_size
    end = whole if size is None else start + size
    bounded = BoundedFile(file, walk_bounds(end - start), whole)
    try:
        file.seek(start)
        # Positions are those in the whole file; tarfile starts where the file stands.
        with tarfile.open(fileobj=bounded, mode="r:") as archive:
            last = start
            while (member := archive.next()) is not None:
                last = archive.offset
                if last > end:
                    raise tarfile.ReadError(f"{member.name} goes on beyond the end")
                archive.members = []  # type: ignore[attr-defined]  # Kept by tarfile, a gigabyte for all of ImageNet.
                check_member(member, most or end - start)
                if member.isfile():
                    yield member, member.offset_data
            file.seek(last)
            if last + tarfile.BLOCKSIZE > end or any(file.read(tarfile.BLOCKSIZE)):
                raise tarfile.ReadError("no mark of the end")
    except TAR_ERRORS as error:
        raise ValueError(
            f"{what} is truncated or no tar ({error}): download {path.name} again"
        ) from error


def _records(path: pathlib.Path, places: list[_Place]) -> Records:
    handle = path.open("rb")

    def example(index: int) -> dict[str, Any]:
        place = places[index]
        data = os.pread(handle.fileno(), place.size, place.offset)
        try:
            image = _as_jpeg(data)
        except UndecodableImageError as error:
            raise ValueError(
                f"image {place.name} ({place.label}) in {path} cannot be decoded ({error}): the "
                "archive is damaged; download it again"
            ) from error
        return {"file_name": place.name, "image": image, "label": place.label}

    weakref.finalize(example, handle.close)  # Open as long as the records are in use.
    return Records([place.name for place in places], sum(p.size for p in places), example)


def _as_jpeg(data: bytes) -> bytes:
    """The bytes of an RGB or grayscale JPEG as they are, others converted."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            plain = image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L")
            # An eighth of the size takes a third of the time, and goes through all of the bytes.
            image.draft(image.mode, (1, 1))
            image.load()
    except MemoryError:
        raise
    except Exception:  # Pillow's codecs raise many kinds. Decoding says what it is, if anything.
        plain = False
    if plain:
        return data
    file = io.BytesIO()
    decode_image(data, 3).save(file, "jpeg", quality=100)
    return file.getvalue()
