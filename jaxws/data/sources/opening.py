"""Opening a data set that TFDS has prepared, without running anything that its files name.

TFDS writes the classes of a data set's features into ``features.json``, and imports whatever module
stands there when it opens it: code of whoever wrote the file. Here only TFDS's own classes may.
"""

import functools
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

# Both may describe features. Theirs is the order in which what is wrong is told.
_FILES = ("dataset_info.json", "features.json")
# Protocol buffers take either spelling of a field.
_CLASS_KEYS = ("pythonClassName", "python_class_name")
_OWN = re.compile(r"tensorflow_datasets\.core\.features\.[\w.]+")


def open_directory(directory: pathlib.Path) -> tfds.core.DatasetBuilder:
    """Opens a data set.

    Args:
      directory: of one version of it, where all files are.

    Returns:
      A builder that reads it.

    Raises:
      ValueError: a file cannot be read, or names a class that does not come with TFDS.

    Example:
      >>> import tempfile
      >>> (directory := pathlib.Path(tempfile.mkdtemp()))  # doctest: +ELLIPSIS
      PosixPath('...')
      >>> open_directory(directory)  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      ValueError: the data set in ... cannot be opened (... No such file or directory: ...
    """
    try:
        for name in _FILES:
            check_classes(directory / name)
        builder = tfds.builder_from_directory(str(directory))
        _check_counts(builder, directory)
        return builder
    except (ForeignClassError, MemoryError):
        raise
    # What TFDS and protobuf raise for files that are not theirs: KeyError, ParseError, ...
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(
            f"the data set in {directory} cannot be opened ({reason}): delete that directory and "
            "prepare the data set anew"
        ) from error


class ForeignClassError(ValueError):
    """A file names a class whose module TFDS would import."""


def check_classes(file: pathlib.Path) -> None:
    """Checks which classes a file of a prepared data set names; imports none.

    Args:
      file: ``features.json`` or ``dataset_info.json``.

    Raises:
      ForeignClassError: one does not come with TFDS.
      OSError: it cannot be read.
      ValueError: it is not JSON.
    """
    for name in _class_names(json.loads(file.read_text(encoding="utf-8"))):
        if not isinstance(name, str) or name not in _tfds_classes():
            raise ForeignClassError(
                f"{file} names the class {name!r}, whose module would be run to open the data set; "
                "expected classes of features that come with TFDS "
                "(tensorflow_datasets.core.features...): prepare the data set yourself"
            )


def _check_counts(builder: tfds.core.DatasetBuilder, directory: pathlib.Path) -> None:
    """Refuses more records than there are bytes: memory is taken for as many as are claimed."""
    there = sum(file.stat().st_size for file in directory.iterdir() if file.is_file())
    for split, info in builder.info.splits.items():
        if not 0 <= info.num_examples <= there:
            raise ValueError(f"split {split!r} claims {info.num_examples} records")


def _class_names(value: Any) -> Iterator[Any]:
    """All that would be taken for a class, however deep, in JSON within strings too."""
    if isinstance(value, list):
        for item in value:
            yield from _class_names(item)
    elif isinstance(value, dict):
        yield from (value[key] for key in _CLASS_KEYS if key in value)
        if "type" in value and "content" in value and isinstance(value["type"], str):
            yield value["type"]  # as older versions of TFDS wrote it
        for item in value.values():
            yield from _class_names(item)
    elif isinstance(value, str) and "{" in value:
        try:
            inner = json.loads(value)
        except ValueError:
            return
        yield from _class_names(inner)


@functools.cache
def _tfds_classes() -> frozenset[str]:
    """Names of the classes that TFDS registers when it is imported."""
    registered = tfds.features.FeatureConnector._registered_features
    return frozenset(name for name in registered if _OWN.fullmatch(name))
