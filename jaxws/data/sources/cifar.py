"""CIFAR-10 and CIFAR-100 as TFDS's official data sets, prepared without TensorFlow.

Names, versions, features, order and decoded records are those of TFDS's own builders, whose classes
these extend. The archive may be the binary one that TFDS takes, or the one for Python.
"""

import functools
import io
import pathlib
import pickle
import pickletools
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.image_classification import cifar

from jaxws.data.sources.bounded import TAR_ERRORS, read_tar
from jaxws.data.sources.names import check_class_names
from jaxws.data.sources.shuffled import Records, ShuffledBuilder

_PIXELS = 32 * 32 * 3
_MOST_BYTES = 512 * 1024**2  # of an archive, unpacked: three times what the official ones have
_MOST_NAMES = 64 * 1024  # bytes of a file of class names
# In the archives for Python: the keys that go with TFDS's names of the labels.
_PYTHON_KEYS = {
    "cifar10": {"label": "labels"},
    "cifar100": {"coarse_label": "coarse_labels", "label": "fine_labels"},
}
_PYTHON_NAMES = {
    "cifar10": {"label": "label_names"},
    "cifar100": {"coarse_label": "coarse_label_names", "label": "fine_label_names"},
}


_PLACES = ("PUT", "BINPUT", "LONG_BINPUT")


class Cifar10(ShuffledBuilder, cifar.Cifar10, skip_registration=True):  # type: ignore[call-arg]
    """TFDS's 'cifar10' from an archive at hand.

    Args:
      archive: the official archive, ``cifar-10-binary.tar.gz`` or ``cifar-10-python.tar.gz``.
      **kwargs: Those of ``tfds.core.DatasetBuilder``, such as ``data_dir``.
    """

    name = "cifar10"

    def __init__(self, archive: pathlib.Path, **kwargs: Any) -> None:
        """Notes where the archive is; it is opened when the data set is prepared."""
        self._archive = archive
        super().__init__(**kwargs)

    def _records(self) -> dict[str, Records]:
        files = _read_archive(self._archive)
        info = self._cifar_info
        read = _read_binary if any(name.endswith(".bin") for name in files) else _read_python
        names, arrays = read(self.name, self._archive, files, info)
        for key, values in names.items():
            check_class_names(values, str(self._archive), "it is not the official archive")
            feature = self.info.features[key]
            if len(values) != feature.num_classes:
                raise ValueError(
                    f"{self._archive} names {len(values)} classes of {key!r}, expected "
                    f"{feature.num_classes}: it is not the official archive"
                )
            feature.names = values
        result = {}
        for split, (labels, images) in arrays.items():
            _check_labels(self._archive, split, labels, self.info.features)
            example = functools.partial(_example, split, labels, images)
            result[split] = Records(range(len(images)), images.size, example)
        return result


class Cifar100(Cifar10, cifar.Cifar100, skip_registration=True):  # type: ignore[call-arg]
    """TFDS's 'cifar100' from an archive at hand.

    Args:
      archive: the official archive, ``cifar-100-binary.tar.gz`` or ``cifar-100-python.tar.gz``.
      **kwargs: Those of ``tfds.core.DatasetBuilder``, such as ``data_dir``.
    """

    name = "cifar100"
    _info = cifar.Cifar100._info
    _cifar_info = cifar.Cifar100._cifar_info


_Labels = dict[str, np.ndarray]
_Splits = dict[str, tuple[_Labels, np.ndarray]]


def _example(split: str, labels: _Labels, images: np.ndarray, index: int) -> dict[str, Any]:
    pixels = images[index].reshape(3, 32, 32).transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "png")
    values = {key: int(column[index]) for key, column in labels.items()}
    return {"id": f"{split}_{index:05d}", "image": file.getvalue(), **values}


def _read_archive(path: pathlib.Path) -> dict[str, bytes]:
    """All files of an archive by their base names; 180 MB."""
    try:
        return read_tar(path, _MOST_BYTES)
    except TAR_ERRORS as error:
        raise ValueError(
            f"{path} cannot be read to its end ({error}): it is truncated or damaged; download it "
            "again"
        ) from error


def _member(path: pathlib.Path, files: dict[str, bytes], name: str) -> bytes:
    if name not in files:
        raise ValueError(f"{path} has no file {name}: it is not the official archive")
    return files[name]


def _read_binary(
    name: str, path: pathlib.Path, files: dict[str, bytes], info: Any
) -> tuple[dict[str, list[str]], _Splits]:
    names = {}
    for key, file in zip(info.label_keys, info.label_files, strict=True):
        text = _member(path, files, file)
        if len(text) > _MOST_NAMES or not text.isascii():
            raise ValueError(f"{file} in {path} has no names: it is not the official archive")
        # A name is a line: one with a blank in it must not become two.
        names[key] = text.decode().replace("\r\n", "\n").strip().split("\n")
    width = len(info.label_keys)
    splits: _Splits = {}
    for split, parts in (("train", info.train_files), ("test", info.test_files)):
        rows = []
        for part in parts:
            data = np.frombuffer(_member(path, files, part), np.uint8)
            if data.size % (width + _PIXELS):
                raise ValueError(
                    f"{part} in {path} has {data.size} bytes, expected a multiple of "
                    f"{width + _PIXELS}, the size of a record: it is truncated"
                )
            rows.append(data.reshape(-1, width + _PIXELS))
        records = np.concatenate(rows)
        labels = {key: records[:, i] for i, key in enumerate(info.label_keys)}
        splits[split] = labels, records[:, width:]
    return names, splits


def _read_python(
    name: str, path: pathlib.Path, files: dict[str, bytes], info: Any
) -> tuple[dict[str, list[str]], _Splits]:
    meta = _unpickle(path, files, "meta" if "meta" in files else "batches.meta")
    keys = _PYTHON_KEYS[name]
    try:
        names = {key: _flat(meta[theirs], str) for key, theirs in _PYTHON_NAMES[name].items()}
        splits: _Splits = {}
        for split, parts in (("train", info.train_files), ("test", info.test_files)):
            batches = [_unpickle(path, files, part.removesuffix(".bin")) for part in parts]
            if not all(isinstance(batch["data"], np.ndarray) for batch in batches):
                raise ValueError("images that are no array")
            images = np.concatenate([batch["data"] for batch in batches])
            if images.dtype != np.uint8 or images.shape[1:] != (_PIXELS,):
                raise ValueError(f"images of {images.dtype} and shape {images.shape}")
            columns = {
                key: np.concatenate([np.array(_flat(b[theirs], int), np.int64) for b in batches])
                for key, theirs in keys.items()
            }
            if any(len(column) != len(images) for column in columns.values()):
                raise ValueError(f"{len(images)} images, but not as many labels")
            splits[split] = columns, images
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if "not the official archive" in str(error):
            raise
        raise ValueError(f"{path} is not the official archive ({error})") from error
    return names, splits


def _flat(values: Any, kind: type) -> list[Any]:
    """A list as it should be; one that holds another one again and again would have no end."""
    if isinstance(values, np.ndarray) and values.ndim == 1:
        values = values.tolist()
    if not isinstance(values, list):
        raise TypeError(f"a {type(values).__name__} where a list was expected")
    values = [value.decode() if isinstance(value, bytes) else value for value in values]
    if not all(isinstance(value, kind) for value in values):
        raise TypeError(f"a list of other things than {kind.__name__}")
    return values


class _Unpickler(pickle.Unpickler):
    """Loads arrays and plain values, and refuses whatever else a pickle could run."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if module.endswith("core.multiarray") and name == "_reconstruct":
            return np.zeros(0).__reduce__()[0]
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in this file")


def _unpickle(path: pathlib.Path, files: dict[str, bytes], name: str) -> dict[str, Any]:
    data = _member(path, files, name)
    try:
        # A pickle may name a place of which the memory for all that come before it is taken.
        for code, place, _ in pickletools.genops(data):
            if code.name in _PLACES and isinstance(place, int) and place > len(data):
                raise pickle.UnpicklingError(f"it claims {place} objects")
        value = _Unpickler(io.BytesIO(data), encoding="latin1").load()
        # Pickles written by Python 3 may have keys of bytes.
        return {key.decode() if isinstance(key, bytes) else key: v for key, v in value.items()}
    except Exception as error:  # Damaged pickles raise anything.
        raise ValueError(
            f"{name} in {path} cannot be read ({error}): it is not the official archive"
        ) from error


def _check_labels(
    path: pathlib.Path, split: str, labels: _Labels, features: tfds.features.FeaturesDict
) -> None:
    for key, column in labels.items():
        classes = features[key].num_classes
        wrong = np.flatnonzero((column < 0) | (column >= classes))
        if len(wrong):
            raise ValueError(
                f"record {split}_{wrong[0]:05d} in {path} has {key} {column[wrong[0]]}, expected "
                f"0 to {classes - 1} ({len(wrong)} such records): it is not the official archive"
            )
