"""TinyImageNet as a TFDS data set: 200 classes, 64x64 pixels, from the official zip."""

import functools
import pathlib
import zipfile
from typing import Any

import tensorflow_datasets as tfds

from jaxws.data.sources.bounded import ZIP_ERRORS, read_zipped
from jaxws.data.sources.images import inspect_image
from jaxws.data.sources.names import check_class_names
from jaxws.data.sources.shuffled import Records, ShuffledBuilder

_ROOT = "tiny-imagenet-200/"


class Builder(ShuffledBuilder, tfds.core.ShardBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """TFDS builder of 'tiny_imagenet'; labels are the WordNet ids in sorted order.

    The records hold the bytes of the JPEG files; some are grayscale, and are decoded to RGB.
    The images of ``test`` have no labels and are left out.

    Args:
      archive: ``tiny-imagenet-200.zip``.
      **kwargs: Those of ``tfds.core.DatasetBuilder``, such as ``data_dir``.
    """

    name = "tiny_imagenet"
    # Raise this when the stored records would change.
    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, archive: pathlib.Path, **kwargs: Any) -> None:
        """Reads the names of the files and classes."""
        self._archive = archive
        try:
            with zipfile.ZipFile(archive) as file:
                self._names = file.namelist()
                self._classes = sorted(read_zipped(file, _ROOT + "wnids.txt").decode().split())
                notes = read_zipped(file, _ROOT + "val/val_annotations.txt").decode().split("\n")
        except ZIP_ERRORS as error:
            raise ValueError(
                f"{archive} cannot be read as tiny-imagenet-200.zip ({error}): it is truncated or "
                "another file; download it again"
            ) from error
        check_class_names(
            self._classes, f"wnids.txt in {archive}", "it is not the official archive"
        )
        self._labels = {line.split("\t")[0]: line.split("\t")[1] for line in notes if "\t" in line}
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(64, 64, 3), encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=self._classes),
            "file_name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="200 classes of ImageNet at 64x64 pixels, 500 training images of each.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="http://cs231n.stanford.edu/",
        )

    def _records(self) -> dict[str, Records]:
        return {
            split: self._split(folder)
            for split, folder in (("train", "train/"), ("validation", "val/"))
        }

    def _split(self, folder: str) -> Records:
        paths = [
            name
            for name in self._names
            if name.startswith(_ROOT + folder) and name.endswith(".JPEG")
        ]
        labels = []
        for path in paths:
            label = path.split("/")[2] if folder == "train/" else self._labels.get(_base(path))
            if label not in self._classes:
                raise ValueError(
                    f"{path} in {self._archive} has the label {label!r}, expected one of the "
                    f"{len(self._classes)} in wnids.txt: it is not the official archive"
                )
            labels.append(label)
        archive = zipfile.ZipFile(self._archive)  # Its reads take a lock: safe in threads.
        size = sum(archive.getinfo(path).file_size for path in paths)
        example = functools.partial(_example, archive, paths, labels)
        return Records([_base(path) for path in paths], size, example)


def _base(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _example(
    archive: zipfile.ZipFile, paths: list[str], labels: list[str], index: int
) -> dict[str, Any]:
    path = paths[index]
    try:
        data = read_zipped(archive, path)
        width, height, plain = inspect_image(data)
    except ZIP_ERRORS as error:  # an UndecodableImageError is a ValueError
        raise ValueError(
            f"{path} in {archive.filename} cannot be read ({error}): the archive is damaged; "
            "download it again"
        ) from error
    if (width, height, plain) != (64, 64, True):
        raise ValueError(
            f"{path} in {archive.filename} is no RGB or grayscale JPEG of 64x64 pixels "
            f"({width}x{height}): it is not the official archive"
        )
    return {"image": data, "label": labels[index], "file_name": _base(path)}
