"""From the configuration to the feed that suits the data set."""

from __future__ import annotations

import io
import pathlib

import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from PIL import Image

from jaxws.data.device.dataset import (
    load_builder,
    load_dataset,
    needs_no_files,
    open_dataset,
)
from jaxws.data.device.feed import DeviceFeed
from jaxws.data.feed import Feed
from jaxws.data.host.feed import HostFeed, HostOptions
from jaxws.data.sources.features import feature_keys, split_names
from jaxws.data.sources.read import MAX_BYTES
from jaxws.data.sources.records import Records
from jaxws.data.splits import SplitRows, choose_rows

# Crops of ImageNet where the configuration sets no size.
CROP_SIZE = 224
# Images of a split whose sizes are looked at where the data set does not say its images' shape.
_LOOK_AT = 64


def build_feed(config: ConfigDict) -> Feed:
    """Opens the data set of a configuration and says how batches are made of it.

    A data set of images of one size that fits in memory, or whose images are brought to one by
    ``data.image_size``, is loaded and put on the device as a whole. Every other one is decoded and
    cut into random-resized-crops on the host as it is needed.

    Args:
      config: see ``jaxws.config.fields``.

    Returns:
      The feed.

    Raises:
      ValueError: if a field is wrong, or the data set is missing, damaged or not one of labelled
        images.
    """
    data = config.data
    feed = _build(config, data)
    if data.path is not None:
        folder = pathlib.Path(data.path).expanduser().resolve()
        feed.name, feed.path = folder.name or str(folder), str(folder)
    return feed


def _build(config: ConfigDict, data: ConfigDict) -> Feed:
    arguments = {
        "seed": config.seed,
        "batch_size": config.batch_size,
        "eval_batch_size": config.eval_batch_size,
        "flip": data.flip,
        "dtype": jnp.dtype(config.model.dtype),
        "n_reps": data.n_reps,
    }
    options = HostOptions(data.decoder, data.threads, data.workers)
    if needs_no_files(data):
        dataset = load_dataset(data)
    else:
        builder = open_dataset(data)
        if data.image_size is None and needs_host(data.name, builder):
            return HostFeed(
                data.name,
                builder,
                chosen=_choose(data, builder),
                mean_std=data.mean_std,
                crop_size=data.crop_size or CROP_SIZE,
                options=options,
                **arguments,
            )
        dataset = load_builder(data, builder)
    return DeviceFeed(dataset, pad=data.pad, crop_size=data.crop_size, **arguments)


def _choose(data: ConfigDict, builder: tfds.core.DatasetBuilder) -> SplitRows:
    """Rows by chance alone: labels would take a pass over all records."""
    size = builder.info.splits[split_names(data.name, builder)[0]].num_examples
    return choose_rows(
        np.zeros(size, np.int8),
        split=data.split,
        train_fraction=data.train_fraction,
        seed=data.split_seed,
    )


def needs_host(name: str, builder: tfds.core.DatasetBuilder) -> bool:
    """Whether a data set cannot be one array in memory: images differ in size or are too many.

    Where the data set does not say the shape of its images, some of each split are looked at.

    Args:
      name: the name that it was asked for by.
      builder: a prepared data set.

    Returns:
      True if its images have to be decoded as they are needed.

    Raises:
      ValueError: if it has no image or label or lacks a split.

    Example:
      >>> import tempfile
      >>> from jaxws.data.sources.digits import Builder
      >>> from jaxws.data.sources.prepare import prepare
      >>> needs_host("digits", prepare(Builder(data_dir=tempfile.mkdtemp())))
      False
    """
    height, width, channels = builder.info.features[feature_keys(builder)[0]].shape
    shapes = {(height, width)}
    if None in (height, width):
        splits = [Records(builder, split) for split in split_names(name, builder)]
        shapes = {shape for records in splits for shape in _some_sizes(records)}
    images = sum(info.num_examples for info in builder.info.splits.values())
    pixels = [height * width * (channels or 3) for height, width in shapes]
    return len(shapes) > 1 or images * max(pixels, default=0) > MAX_BYTES


def _some_sizes(records: Records) -> set[tuple[int, int]]:
    """Sizes of images spread evenly over the records, from their headers."""
    sizes = set()
    for index in range(0, len(records), -(-len(records) // _LOOK_AT)):
        try:
            with Image.open(io.BytesIO(records[index].data)) as image:
                sizes.add(image.size)
        except (OSError, Image.DecompressionBombError):
            continue  # damaged: decoding it, later, says which one it is
    return sizes
