"""One call from the configuration to a whole data set in memory."""

import dataclasses
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxws.config.choices import ON_CORRUPT, check_one_of
from jaxws.data.sources.bucket_copy import copied_root
from jaxws.data.sources.digits import Builder as DigitsBuilder
from jaxws.data.sources.digits import DigitsConfig, draw_split
from jaxws.data.sources.features import feature_keys, split_names
from jaxws.data.sources.folder import folder_sizes, prepare_folder
from jaxws.data.sources.images import fit_image
from jaxws.data.sources.named import open_prepared
from jaxws.data.sources.names import class_names
from jaxws.data.sources.prepare import data_root, prepare
from jaxws.data.sources.read import NotOneArrayError, check_bytes, read_split
from jaxws.data.splits import SplitRows, check_choice, choose_rows
from jaxws.data.statistics import mean_and_std
from jaxws.system.local_path import is_bucket

_MOST_PIXELS = 4096  # of a side that images are resized to

Arrays = tuple[np.ndarray, np.ndarray]  # uint8 (N, H, W, c) images, int64 (N,) labels


class Split(NamedTuple):
    """The images and labels of a split, row by row.

    Attributes:
      images: uint8 ``(N, H*W*c)``, each image a flat row.
      labels: int32 ``(N,)``.
    """

    images: np.ndarray | jax.Array
    labels: np.ndarray | jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory.

    Attributes:
      name: the name it was asked for by.
      train: the images to train on.
      test: the images to test on: those of the test split (the validation split of a data set
        without a labelled test split), or training images held out for tuning.
      image_shape: ``(H, W, c)``.
      class_names: one name for each label.
      mean: float32 ``(c,)`` mean to normalise by, in [0, 1] units; of the pixels of ``train``
        unless ImageNet's was asked for.
      std: float32 ``(c,)`` standard deviation, in the same units; 1 for a channel that is
        constant, so that dividing by it is always sound.
      chosen: which images of the stored training split are in ``train``, and in ``test`` if held
        out.
    """

    name: str
    train: Split
    test: Split
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    chosen: SplitRows


def load_dataset(data: ml_collections.ConfigDict) -> Dataset:
    """Loads a data set, preparing it on disk first where that needs no download.

    Args:
      data: the section ``data`` of a configuration, of which these fields are read:
        ``name``: 'digits' (comes with the package), 'folder', or a TFDS name such as 'cifar10'
        that has been prepared as array_record.
        ``path``: A folder of images, ``train/CLASS/*.jpg`` and ``test/CLASS/*.jpg`` (needed by
        'folder'; with a TFDS name, it takes the place of the prepared data), or None.
        ``data_dir``: Where TFDS data lies, or None for ``~/tensorflow_datasets``; digits without
        one are made in memory, and nothing is written.
        ``image_size``: Resize the shorter side to this many pixels and crop the centre, or None.
        ``on_corrupt``: 'error' or 'skip', for the images of a folder that cannot be decoded.
        ``split``, ``train_fraction``, ``split_seed``: Which images to train and to test on, see
        ``jaxws.data.splits.choose_rows``.
        ``mean_std``: 'train' or 'imagenet', whose mean and standard deviation to normalise by.

    Returns:
      The data set.

    Raises:
      ValueError: if a field is wrong, or the data set is missing, damaged, too large for memory
        or not one of labelled images of one shape.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> data = base_config().data
      >>> data.name = "digits"
      >>> digits = load_dataset(data)
      >>> digits.image_shape, digits.train.images.shape, digits.test.labels.shape
      ((24, 24, 1), (1437, 576), (1440,))
    """
    if needs_no_files(data):
        return _load_digits(data)
    return load_builder(data, open_dataset(data))


def needs_no_files(data: ml_collections.ConfigDict) -> bool:
    """Whether a data set is made in memory: the digits, unless a directory for them is given.

    Args:
      data: as of ``load_dataset``.

    Returns:
      True if no home directory, nor any other that can be written, is needed.
    """
    return (data.name, data.path, data.data_dir) == ("digits", None, None)


def _load_digits(data: ml_collections.ConfigDict) -> Dataset:
    _check_fields(data)

    def load(split: str) -> Arrays:
        images, labels = draw_split(split, DigitsConfig())
        check_bytes("digits", 2 * len(images), (data.image_size or 1) ** 2)  # half of them
        fitted = [fit_image(Image.fromarray(image), data.image_size) for image in images]
        return np.stack(fitted), labels

    return _choose(data, load("train"), load("test"), tuple("0123456789"))


def open_dataset(data: ml_collections.ConfigDict) -> tfds.core.DatasetBuilder:
    """Opens a data set, preparing it on disk first where that needs no download.

    Args:
      data: as of ``load_dataset``.

    Returns:
      A builder of prepared data.

    Raises:
      ValueError: if a field is wrong or the data set is missing.
    """
    _check_fields(data)
    root = data_root(data.data_dir)
    if data.path is not None:
        return prepare_folder(data.path, data_dir=data.data_dir, on_corrupt=data.on_corrupt)
    if data.name == "digits":
        return prepare(DigitsBuilder(data_dir=str(root)))
    if data.data_dir is not None and is_bucket(data.data_dir):
        root = copied_root(data.data_dir, data.name)
    return open_prepared(data.name, root)


def _check_fields(data: ml_collections.ConfigDict) -> None:
    if not isinstance(data.name, str) or not data.name:
        raise ValueError(
            f"data.name is {data.name!r}, expected 'digits', 'folder' or a TFDS name: set "
            "--config.data.name"
        )
    if data.name == "folder" and data.path is None:
        raise ValueError("data.name 'folder' needs a folder of images: set --config.data.path")
    if data.name == "digits" and data.path is not None:
        raise ValueError(
            f"data.path is {data.path!r} but data.name 'digits' comes with the package: leave out "
            "the path, or set --config.data.name=folder to train on those images"
        )
    size = data.image_size
    if size is not None and (not isinstance(size, int) or not 1 <= size <= _MOST_PIXELS):
        raise ValueError(
            f"data.image_size is {size!r}, expected a whole number of pixels, 1 to "
            f"{_MOST_PIXELS}, or unset"
        )
    check_one_of("data.on_corrupt", data.on_corrupt, ON_CORRUPT)
    check_choice(data.split, data.train_fraction, data.split_seed)


def load_builder(data: ml_collections.ConfigDict, builder: tfds.core.DatasetBuilder) -> Dataset:
    """Loads a data set that is open.

    Args:
      data: as for ``load_dataset``.
      builder: from ``open_dataset``.

    Returns:
      The data set.

    Raises:
      NotOneArrayError: if it is too large for memory, or its images are not of one shape.
      ValueError: if it is damaged, not one of labelled images, or too small to be divided as asked
        for.
    """
    name, image_size = data.name, data.image_size
    _, label_key = feature_keys(builder)
    classes = class_names(builder, label_key)
    if image_size is None and (sizes := folder_sizes(builder)):
        raise NotOneArrayError(
            f"the images of {str(data.path)!r} have {sizes[0]}: {', '.join(sizes[1:])}; expected "
            "one size for a data set in memory: set --config.data.image_size=SIZE to resize the "
            "shorter side and crop the centre"
        )
    train_split, test_split = split_names(name, builder)
    train = read_split(builder, train_split, image_size)
    test = read_split(builder, test_split, image_size)
    if train[0].shape[1:] != test[0].shape[1:]:
        raise NotOneArrayError(
            f"images of data set {name!r} are {train[0].shape[1:]} in 'train' but "
            f"{test[0].shape[1:]} in {test_split!r}, expected one shape (height, width, channels): "
            "set --config.data.image_size=SIZE to resize and crop them"
        )
    for split, labels in (("train", train[1]), (test_split, test[1])):
        if labels.min() < 0 or labels.max() >= len(classes):
            raise ValueError(
                f"labels of split {split!r} of data set {name!r} run from {labels.min()} to "
                f"{labels.max()}, expected 0 to {len(classes) - 1} for its {len(classes)} classes "
                "(-1 stands for images without a label): choose a data set with labels"
            )
    return _choose(data, train, test, classes)


def _choose(
    data: ml_collections.ConfigDict, train: Arrays, test: Arrays, classes: tuple[str, ...]
) -> Dataset:
    """The data set of those images that are asked for."""
    chosen = choose_rows(
        train[1], split=data.split, train_fraction=data.train_fraction, seed=data.split_seed
    )
    if chosen.validation is not None:
        test = _rows(train, chosen.validation)
    train = _rows(train, chosen.train)
    mean, std = mean_and_std(train[0], data.mean_std)
    return Dataset(
        name=data.name,
        train=_flat(*train),
        test=_flat(*test),
        image_shape=train[0].shape[1:],
        class_names=classes,
        mean=mean,
        std=std,
        chosen=chosen,
    )


def _rows(arrays: Arrays, rows: np.ndarray) -> Arrays:
    """Some images and their labels; all of them are not copied."""
    images, labels = arrays
    return (images, labels) if len(rows) == len(images) else (images[rows], labels[rows])


def _flat(images: np.ndarray, labels: np.ndarray) -> Split:
    return Split(images.reshape(len(images), -1), labels.astype(np.int32))
