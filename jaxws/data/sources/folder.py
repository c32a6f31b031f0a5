"""A folder of images as a TFDS data set, prepared once for each state of the folder."""

import collections
import functools
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from absl import logging

from jaxws.config.identity import CONTENT
from jaxws.data.sources.images import UndecodableImageError, decode_image, inspect_image
from jaxws.data.sources.prepare import LocalBuilder, data_root, prepare
from jaxws.data.sources.scan import Folder, ImageFile, name_some, scan_folder
from jaxws.data.sources.tasks import map_in_tasks
from jaxws.system.terminal import track

_SHARD_BYTES = 128 * 1024**2
_CHUNK = 1024


class FolderBuilder(LocalBuilder, skip_registration=True):  # type: ignore[call-arg]
    """TFDS builder of one state of an image folder.

    Every image is decoded once while preparing, to find the corrupt ones; what is stored are the
    bytes of the file, or a PNG where only a conversion makes them an 8-bit RGB or grayscale image.

    Args:
      folder: the folder as it was scanned.
      on_corrupt: 'error' to refuse images that cannot be decoded, 'skip' to leave them out.
      **kwargs: Those of ``tfds.core.DatasetBuilder``, such as ``data_dir``.
    """

    name = "image_folder"
    # Raise this when the stored records of the same folder would change.
    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, folder: Folder, on_corrupt: str, **kwargs: Any) -> None:
        """Sets the config, and so the directory, from the fingerprint of the folder."""
        self._folder = folder
        self._on_corrupt = on_corrupt
        readable = re.sub(r"[^A-Za-z0-9_]+", "_", folder.path.resolve().name)[:40]
        config = tfds.core.BuilderConfig(name=f"{readable}-{folder.fingerprint}")
        super().__init__(config=config, **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(names=self._folder.class_names),
                    "file_name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            metadata=tfds.core.MetadataDict(),
        )

    def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, Sequence[Any]]:
        folder = self._folder
        checked = _check_images(folder, (*folder.train, *folder.test))
        corrupt = [image.file.name for image in checked if image.defect]
        if self._on_corrupt == "error":
            _refuse_corrupt(folder, corrupt)
        whole = {split: _whole(checked, getattr(folder, split)) for split in ("train", "test")}
        for split, images in whole.items():
            _check_classes_left(folder, split, images)
        self.info.metadata.update(
            corrupt=corrupt,
            content=_content(folder, whole),
            **_count_sizes([*whole["train"], *whole["test"]]),
        )
        return {split: self._shards(split, images) for split, images in whole.items()}

    def _shards(self, split: str, images: list["_Checked"]) -> list[Any]:
        shards: list[list[_Checked]] = [[]]
        used = 0
        for image in images:
            if used > _SHARD_BYTES:
                shards.append([])
                used = 0
            shards[-1].append(image)
            used += image.file.size
        return [functools.partial(self._examples, split, shard) for shard in shards]

    def _examples(
        self, split: str, images: list["_Checked"]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for image in track(images, f"Writing {split}", len(images)):
            data: Any = _read_bytes(self._folder, image.file)
            if not image.plain:
                data = decode_image(data, 3)  # TFDS stores a PIL image as PNG.
            name = image.file.name.encode("utf-8", "replace").decode()
            label = self._folder.class_names.index(image.file.label)
            yield name, {"image": data, "label": label, "file_name": name}


class _Checked(NamedTuple):
    file: ImageFile
    digest: bytes
    defect: str = ""
    width: int = 0
    height: int = 0
    plain: bool = False


def prepare_folder(
    path: str, *, data_dir: str | None, image_size: int | None, on_corrupt: str
) -> tfds.core.DatasetBuilder:
    """Prepares an image folder unless its present state has been prepared before, and opens it.

    Args:
      path: a folder with ``train/CLASS/*.jpg`` (or .jpeg, .png) and ``test/CLASS/*.jpg``.
      data_dir: where TFDS data lies, or None for TFDS's default.
      image_size: the size that the images will be given, or None if they all have one size.
      on_corrupt: what to do about images that cannot be decoded: 'error' names them, 'skip'
        leaves them out with a warning.

    Returns:
      A builder that reads the splits 'train' and 'test'.

    Raises:
      ValueError: if the folder is missing, laid out in another way, has corrupt images, or
        images of several sizes while ``image_size`` is None.
    """
    folder = scan_folder(path)
    builder = prepare(FolderBuilder(folder, on_corrupt, data_dir=str(data_root(data_dir))))
    # A copy prepared with 'skip' serves both: what was left out is on record.
    corrupt = builder.info.metadata["corrupt"]
    if on_corrupt == "error":
        _refuse_corrupt(folder, corrupt)
    if corrupt:
        logging.warning(
            "Left out %d corrupt image(s) of %s: %s", len(corrupt), folder.path, name_some(corrupt)
        )
    if image_size is None:
        _check_one_size(folder, builder.info.metadata)
    return builder


def _check_images(folder: Folder, files: Sequence[ImageFile]) -> list[_Checked]:
    def check(file: ImageFile) -> _Checked:
        data = _read_bytes(folder, file)
        digest = hashlib.sha256(data).digest()
        try:
            return _Checked(file, digest, "", *inspect_image(data))
        except UndecodableImageError as error:
            return _Checked(file, digest, str(error))

    checked: list[_Checked] = []
    starts = track(range(0, len(files), _CHUNK), "Checking images", len(files), weight=_CHUNK)
    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in starts:
            checked += map_in_tasks(pool, check, files[start : start + _CHUNK])
    return checked


def _content(folder: Folder, whole: dict[str, list[_Checked]]) -> str:
    """A checksum of what is read of a folder, in order: bytes and labels, whatever their names."""
    digest = hashlib.sha256()
    labels = {name: label for label, name in enumerate(folder.class_names)}
    for split, images in whole.items():
        digest.update(f"{split} {len(images)}\n".encode())
        for image in images:
            digest.update(image.digest + f" {labels[image.file.label]}\n".encode())
    return digest.hexdigest()


def content_of(builder: tfds.core.DatasetBuilder) -> dict[str, str]:
    """The checksum of what was read of a folder, where one was taken when it was prepared.

    Args:
      builder: a prepared data set.

    Returns:
      It, under the name that it has among the facts about data; empty for another data set.
    """
    content = (builder.info.metadata or {}).get("content")
    return {CONTENT: content} if content else {}


def _read_bytes(folder: Folder, file: ImageFile) -> bytes:
    try:
        return (folder.path / file.name).read_bytes()
    except OSError as error:
        # Not the fault of the image: leaving it out could lose a whole disk without a word.
        raise ValueError(
            f"image {file.name} of {str(folder.path)!r} cannot be read ({error}): check its "
            "permissions and that the folder is not being changed"
        ) from error


def _refuse_corrupt(folder: Folder, corrupt: list[str]) -> None:
    if corrupt:
        raise ValueError(
            f"{len(corrupt)} corrupt image(s) in {str(folder.path)!r}, truncated or of no known "
            f"format: {name_some(corrupt)}; replace them, or leave them out with "
            "--config.data.on_corrupt=skip"
        )


def _whole(checked: list[_Checked], files: Sequence[ImageFile]) -> list[_Checked]:
    names = {file.name for file in files}
    return [image for image in checked if not image.defect and image.file.name in names]


def _check_classes_left(folder: Folder, split: str, images: list[_Checked]) -> None:
    left = {image.file.label for image in images}
    empty = [name for name in folder.class_names if name not in left]
    if empty:
        raise ValueError(
            f"every image of {len(empty)} class(es) in split {split!r} of {str(folder.path)!r} is "
            f"corrupt: {name_some(empty)}; replace the images or remove the classes"
        )


def _count_sizes(images: list[_Checked]) -> dict[str, Any]:
    """How many sizes there are, and of the most frequent ones how often and an example."""
    counts = collections.Counter((image.width, image.height) for image in images)
    example = {(image.width, image.height): image.file.name for image in reversed(images)}
    common = [
        f"{width}x{height} ({count} images, {example[width, height]})"
        for (width, height), count in counts.most_common(5)
    ]
    return {"distinct_sizes": len(counts), "common_sizes": common}


def _check_one_size(folder: Folder, metadata: Any) -> None:
    if metadata["distinct_sizes"] > 1:
        raise ValueError(
            f"the images of {str(folder.path)!r} have {metadata['distinct_sizes']} sizes: "
            f"{', '.join(metadata['common_sizes'])}; expected one size: set "
            "--config.data.image_size=SIZE to resize the shorter side and crop the centre"
        )
