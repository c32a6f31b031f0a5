"""What of a data set that TFDS has prepared is image and label, to train and to test on."""

import numpy as np
import tensorflow_datasets as tfds

_TEST_SPLITS = ("test", "validation")
# Each has a name in memory, and a row of weights in a network.
_MOST_CLASSES = 2**20


def feature_keys(builder: tfds.core.DatasetBuilder) -> tuple[str, str]:
    """The names of the image and the label among the features of a data set.

    Args:
      builder: a prepared data set.

    Returns:
      The two names.

    Raises:
      ValueError: if it has no 8-bit image with 1 or 3 channels or no class label.
    """
    features = builder.info.features
    by_name = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    keys = builder.info.supervised_keys or ("image", "label")
    image, label = (by_name.get(key) if isinstance(key, str) else None for key in keys[:2])
    sound = (
        isinstance(image, tfds.features.Image)
        and image.np_dtype == np.uint8
        and image.shape[-1] in (None, 1, 3)
        and isinstance(label, tfds.features.ClassLabel)
    )
    if not sound:
        raise ValueError(
            f"data set {builder.info.full_name!r} has the features {features}, expected an 8-bit "
            "image of 1 or 3 channels and a class label: choose an image classification data set"
        )
    classes = getattr(label, "num_classes", None) or 0
    if not 1 <= classes <= _MOST_CLASSES:
        raise ValueError(
            f"data set {builder.info.full_name!r} has {classes} classes, expected 1 to "
            f"{_MOST_CLASSES}: choose an image classification data set"
        )
    return keys[0], keys[1]


def split_names(name: str, builder: tfds.core.DatasetBuilder) -> tuple[str, str]:
    """The splits to train and to test on.

    Args:
      name: the name that the data set was asked for by.
      builder: a prepared data set.

    Returns:
      'train', and 'test' or else 'validation'.

    Raises:
      ValueError: if it lacks one of them.
    """
    have = list(builder.info.splits)
    test = next((split for split in _TEST_SPLITS if split in have), None)
    if test is None or "train" not in have:
        raise ValueError(
            f"data set {name!r} has the splits {have}, expected 'train' and one of "
            f"{list(_TEST_SPLITS)}: choose another data set"
        )
    return "train", test
