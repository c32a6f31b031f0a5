"""A folder of images as a TFDS data set, prepared once for each state of the folder."""

import functools
import hashlib
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from jaxws.config.identity import CONTENT
from jaxws.data.sources.checked import Checked, check_images, count_sizes
from jaxws.data.sources.image_files import read_image_file
from jaxws.data.sources.images import decode_image
from jaxws.data.sources.names import name_some, shown
from jaxws.data.sources.opening import open_directory
from jaxws.data.sources.prepare import LocalBuilder, data_root, is_whole, prepare
from jaxws.data.sources.scan import Folder, scan_folder
from jaxws.system.terminal import track

_SHARD_BYTES = 128 * 1024**2
# Raise this when other images would be called corrupt: copies that left some out are made anew.
_CHECK = 2


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
    VERSION = tfds.core.Version("1.0.0")
    # Has the same records. It is for folders of which a copy has the first name that was made with
    # a fault: copies are not removed, as other processes may be reading them.
    SUPPORTED_VERSIONS = [tfds.core.Version("1.1.0")]  # noqa: RUF012 - as TFDS has it

    def __init__(self, folder: Folder, on_corrupt: str, **kwargs: Any) -> None:
        """Sets the config, and so the directory, from the fingerprint of the folder."""
        self._folder = folder
        self._on_corrupt = on_corrupt
        super().__init__(config=tfds.core.BuilderConfig(name=_config_name(folder)), **kwargs)

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
        checked = {
            split: check_images(folder.path, getattr(folder, split), split)
            for split in ("train", "test")
        }
        corrupt = {
            image.file.name: image.defect
            for images in checked.values()
            for image in images
            if image.defect
        }
        if self._on_corrupt == "error":
            _refuse_corrupt(folder, corrupt)
        whole = {
            split: [image for image in images if not image.defect]
            for split, images in checked.items()
        }
        for split, images in whole.items():
            _check_classes_left(folder, split, images)
        self.info.metadata.update(
            corrupt=list(corrupt),
            reasons=list(corrupt.values()),
            check=_CHECK,
            content=_content(folder, whole),
            **count_sizes([*whole["train"], *whole["test"]]),
        )
        return {split: self._shards(split, images) for split, images in whole.items()}

    def _shards(self, split: str, images: list[Checked]) -> list[Any]:
        shards: list[list[Checked]] = [[]]
        used = 0
        for image in images:
            if used > _SHARD_BYTES:
                shards.append([])
                used = 0
            shards[-1].append(image)
            used += image.file.size
        return [functools.partial(self._examples, split, shard) for shard in shards]

    def _examples(self, split: str, images: list[Checked]) -> Iterator[tuple[str, dict[str, Any]]]:
        labels = {name: label for label, name in enumerate(self._folder.class_names)}
        for image in track(images, f"Writing {split}", len(images)):
            data: Any = read_image_file(self._folder.path, image.file)
            if not image.plain:
                data = decode_image(data, 3)  # TFDS stores a PIL image as PNG.
            name = image.file.name.encode("utf-8", "backslashreplace").decode()
            yield name, {"image": data, "label": labels[image.file.label], "file_name": name}


def _config_name(folder: Folder) -> str:
    readable = re.sub(r"[^A-Za-z0-9_]+", "_", folder.path.resolve().name)[:40]
    return f"{readable}-{folder.fingerprint}"


def prepare_folder(path: str, *, data_dir: str | None, on_corrupt: str) -> tfds.core.DatasetBuilder:
    """Prepares an image folder unless its present state has been prepared before, and opens it.

    Args:
      path: a folder with ``train/CLASS/*.jpg`` (or .jpeg, .png) and ``test/CLASS/*.jpg``.
      data_dir: where TFDS data lies, or None for TFDS's default.
      on_corrupt: what to do about images that cannot be decoded, and about what is no file but
        has the name of an image: 'error' names them, 'skip' leaves them out with a warning.

    Returns:
      A builder that reads the splits 'train' and 'test'. How many sizes its images have, and the
      most frequent ones, are in its metadata: see ``folder_sizes``.

    Raises:
      ValueError: if the folder is missing, laid out in another way, or has corrupt images.
    """
    folder = scan_folder(path)
    builder = _prepare(folder, on_corrupt, str(data_root(data_dir)))
    # A copy prepared with 'skip' serves both: what was left out is on record.
    metadata = builder.info.metadata
    corrupt = dict(zip(metadata["corrupt"], metadata.get("reasons", ()), strict=True))
    if on_corrupt == "error":
        _refuse_corrupt(folder, corrupt)
    if corrupt:
        logging.warning(
            "Left out %d corrupt image(s) of %r: %s",
            len(corrupt),
            str(folder.path),
            _with_reasons(corrupt),
        )
    return builder


def folder_sizes(builder: tfds.core.DatasetBuilder) -> list[str]:
    """The sizes of a folder's images, where they have several.

    Args:
      builder: a prepared data set, of a folder or another.

    Returns:
      The most frequent sizes in words, the number of all sizes first; [] if they have one size, or
      the data set does not say.
    """
    metadata = builder.info.metadata
    if not metadata or metadata.get("distinct_sizes", 1) == 1:
        return []
    return [f"{metadata['distinct_sizes']} sizes", *metadata["common_sizes"]]


def _content(folder: Folder, whole: dict[str, list[Checked]]) -> str:
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


def _prepare(folder: Folder, on_corrupt: str, root: str) -> tfds.core.DatasetBuilder:
    """Opens the copy of a folder, or makes one; not one that was made with a fault."""
    for version in (FolderBuilder.VERSION, *FolderBuilder.SUPPORTED_VERSIONS):
        directory = pathlib.Path(root, FolderBuilder.name, _config_name(folder), str(version))
        if is_whole(directory):  # A builder would read it too, and say less of damage.
            builder = open_directory(directory)
        else:
            new = FolderBuilder(folder, on_corrupt, data_dir=root, version=str(version))
            builder = prepare(new)
        metadata = builder.info.metadata
        sound = not metadata["corrupt"] or metadata.get("check") == _CHECK
        if sound and tuple(builder.info.features["label"].names) == folder.class_names:
            return builder
    raise ValueError(
        f"the copy of {str(folder.path)!r} in {str(builder.data_dir)!r} is of other classes: "
        "delete that directory"
    )


def _refuse_corrupt(folder: Folder, corrupt: Mapping[str, str]) -> None:
    if corrupt:
        raise ValueError(
            f"{len(corrupt)} corrupt image(s) in {str(folder.path)!r}: {_with_reasons(corrupt)}; "
            "replace them, or leave them out with --config.data.on_corrupt=skip"
        )


def _with_reasons(corrupt: Mapping[str, str]) -> str:
    return name_some([f"{shown(name)} ({reason})" for name, reason in corrupt.items()])


def _check_classes_left(folder: Folder, split: str, images: Sequence[Checked]) -> None:
    left = {image.file.label for image in images}
    empty = [name for name in folder.class_names if name not in left]
    if empty:
        raise ValueError(
            f"every image of {len(empty)} class(es) in split {split!r} of {str(folder.path)!r} is "
            f"corrupt: {name_some(empty)}; replace the images or remove the classes"
        )
