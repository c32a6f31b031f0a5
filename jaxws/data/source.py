"""One call from the configuration to a whole data set in memory."""

import dataclasses
import math
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
import tensorflow_datasets as tfds

from jaxws.data.digits import Builder as DigitsBuilder
from jaxws.data.folder import prepare_folder
from jaxws.data.named import open_prepared
from jaxws.data.prepare import data_root, prepare
from jaxws.data.read import feature_keys, read_split

_TEST_SPLITS = ("test", "validation")


class Split(NamedTuple):
    """The images and labels of a split, row by row.

    Attributes:
        images: uint8 `(N, H*W*c)`, each image a flat row.
        labels: int32 `(N,)`.
    """

    images: np.ndarray | jax.Array
    labels: np.ndarray | jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory.

    Attributes:
        name: The name it was asked for by.
        train: The training split.
        test: The test split (the validation split of a data set without a labelled test split).
        image_shape: `(H, W, c)`.
        class_names: One name for each label.
        mean: float32 `(c,)` mean of the training pixels, in [0, 1] units.
        std: float32 `(c,)` standard deviation of the training pixels, in the same units; 1 for a
            channel that is constant, so that dividing by it is always sound.
    """

    name: str
    train: Split
    test: Split
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray


def load_dataset(data: ml_collections.ConfigDict) -> Dataset:
    """Load a data set, preparing it on disk first where that needs no download.

    Args:
        data: The section `data` of a configuration, of which these fields are read:
            `name`: 'digits' (comes with the package), 'folder', or a TFDS name such as 'cifar10'
            that has been prepared as array_record.
            `path`: A folder of images, `train/CLASS/*.jpg` and `test/CLASS/*.jpg` (needed by
            'folder'; with a TFDS name, it takes the place of the prepared data), or None.
            `data_dir`: Where TFDS data lies, or None for `~/tensorflow_datasets`.
            `image_size`: Resize the shorter side to this many pixels and crop the centre, or None.
            `on_corrupt`: 'error' or 'skip', for the images of a folder that cannot be decoded.

    Returns:
        The data set.

    Raises:
        ValueError: If a field is wrong, or the data set is missing, damaged, too large for memory
            or not one of labelled images of one shape.

    Example:
        >>> import ml_collections, tempfile
        >>> data = ml_collections.ConfigDict(dict(
        ...     name="digits", path=None, data_dir=tempfile.mkdtemp(), image_size=None,
        ...     on_corrupt="error"))
        >>> digits = load_dataset(data)
        >>> digits.image_shape, digits.train.images.shape, digits.test.labels.shape
        ((24, 24, 1), (1437, 576), (1440,))
    """
    return load_builder(data.name, open_dataset(data), data.image_size)


def open_dataset(data: ml_collections.ConfigDict) -> tfds.core.DatasetBuilder:
    """Open a data set, preparing it on disk first where that needs no download.

    Args:
        data: As of `load_dataset`.

    Returns:
        A builder of prepared data.

    Raises:
        ValueError: If a field is wrong or the data set is missing.
    """
    _check_fields(data)
    root = data_root(data.data_dir)
    if data.path is not None:
        return prepare_folder(
            data.path,
            data_dir=data.data_dir,
            image_size=data.image_size,
            on_corrupt=data.on_corrupt,
        )
    if data.name == "digits":
        return prepare(DigitsBuilder(data_dir=str(root)))
    return open_prepared(data.name, root)


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel.

    Args:
        images: uint8 `(N, H, W, c)`.

    Returns:
        float32 `(c,)` mean and standard deviation in [0, 1] units, the latter 1 where it would
        be 0.

    Example:
        >>> import numpy as np
        >>> images = np.array([[0, 255], [255, 255]], np.uint8).reshape(2, 1, 1, 2)
        >>> mean, std = channel_statistics(images)
        >>> mean.tolist(), std.tolist()
        ([0.5, 1.0], [0.5, 1.0])
    """
    channels = images.shape[-1]
    rows = images.reshape(len(images), -1)
    total = np.zeros(channels, np.uint64)
    squares = np.zeros(channels, np.uint64)
    # Sums of integers are exact; up to 66,051 squares of a byte fit 32 bits.
    step = min(max(1, 2**22 // rows.shape[1]), 2**16)
    for start in range(0, len(rows), step):
        chunk = rows[start : start + step].astype(np.uint32)
        total += chunk.sum(axis=0, dtype=np.uint64).reshape(-1, channels).sum(axis=0)
        column_squares = np.einsum("np,np->p", chunk, chunk)
        squares += column_squares.astype(np.uint64).reshape(-1, channels).sum(axis=0)
    count = images.size // channels
    mean = total / count / 255
    # In Python's integers, so that the variance of a constant channel is 0 and no rounding error.
    spread = [int(s) * count - int(t) ** 2 for s, t in zip(squares, total, strict=True)]
    std = np.array([math.sqrt(value) / count / 255 if value else 1 for value in spread])
    return mean.astype(np.float32), std.astype(np.float32)


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
    if size is not None and (not isinstance(size, int) or size < 1):
        raise ValueError(
            f"data.image_size is {size!r}, expected a whole number of pixels, or unset"
        )
    if data.on_corrupt not in ("error", "skip"):
        raise ValueError(f"data.on_corrupt is {data.on_corrupt!r}, expected 'error' or 'skip'")


def load_builder(name: str, builder: tfds.core.DatasetBuilder, image_size: int | None) -> Dataset:
    """Load a data set that is open.

    Args:
        name: The name that it was asked for by.
        builder: From `open_dataset`.
        image_size: Resize the shorter side to this many pixels and crop the centre, or None.

    Returns:
        The data set.

    Raises:
        ValueError: If it is damaged, too large for memory or not one of labelled images of one
            shape.
    """
    _, label_key = feature_keys(builder)
    classes = tuple(builder.info.features[label_key].names)
    train_split, test_split = split_names(name, builder)
    train = read_split(builder, train_split, image_size)
    test = read_split(builder, test_split, image_size)
    if train[0].shape[1:] != test[0].shape[1:]:
        raise ValueError(
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
    mean, std = channel_statistics(train[0])
    return Dataset(
        name=name,
        train=_flat(*train),
        test=_flat(*test),
        image_shape=train[0].shape[1:],
        class_names=classes,
        mean=mean,
        std=std,
    )


def _flat(images: np.ndarray, labels: np.ndarray) -> Split:
    return Split(images.reshape(len(images), -1), labels.astype(np.int32))


def split_names(name: str, builder: tfds.core.DatasetBuilder) -> tuple[str, str]:
    """The splits to train and to test on.

    Args:
        name: The name that the data set was asked for by.
        builder: A prepared data set.

    Returns:
        'train', and 'test' or else 'validation'.

    Raises:
        ValueError: If it lacks one of them.
    """
    have = list(builder.info.splits)
    test = next((split for split in _TEST_SPLITS if split in have), None)
    if test is None or "train" not in have:
        raise ValueError(
            f"data set {name!r} has the splits {have}, expected 'train' and one of "
            f"{list(_TEST_SPLITS)}: choose another data set"
        )
    return "train", test
