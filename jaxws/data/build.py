"""From the configuration to the feed that suits the data set."""

from __future__ import annotations

import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from ml_collections import ConfigDict

from jaxws.config.fields import images_per_step
from jaxws.data.device.dataset import (
    Dataset,
    load_builder,
    load_dataset,
    needs_no_files,
    open_dataset,
)
from jaxws.data.device.feed import DeviceFeed
from jaxws.data.feed import Feed, OneDevice, Placing
from jaxws.data.host.feed import HostFeed, HostOptions
from jaxws.data.sources.features import feature_keys, split_names
from jaxws.data.sources.folder import folder_sizes
from jaxws.data.sources.images import image_size
from jaxws.data.sources.read import MAX_BYTES, NotOneArrayError
from jaxws.data.sources.records import Records
from jaxws.data.splits import SplitRows, choose_rows

# Crops of ImageNet where the configuration sets no size.
CROP_SIZE = 224
# Images of a split whose sizes are looked at where the data set does not say its images' shape.
_LOOK_AT = 64


def build_feed(config: ConfigDict, placing: Placing = OneDevice()) -> Feed:  # noqa: B008
    """Opens the data set of a configuration and says how batches are made of it.

    A data set of images of one size that fits in memory, or whose images are brought to one by
    ``data.image_size``, is loaded and put on the device as a whole. Every other one is decoded and
    cut into random-resized-crops on the host as it is needed; the log says why.

    Args:
      config: see ``jaxws.config.fields``.
      placing: where batches lie.

    Returns:
      The feed.

    Raises:
      ValueError: if a field is wrong, or the data set is missing, damaged or not one of labelled
        images of two classes or more.
    """
    feed = _build_feed(config)
    feed.placing = placing
    if config.data.path is not None:
        folder = pathlib.Path(config.data.path).expanduser().resolve()
        feed.name, feed.path = folder.name or str(folder), str(folder)
    if len(feed.class_names) < 2:
        raise ValueError(
            f"data set {feed.name!r} has {len(feed.class_names)} class, in which every answer is "
            "right: expected two or more"
        )
    return feed


def _build_feed(config: ConfigDict) -> Feed:
    data = config.data
    options = HostOptions(data.decoder, data.threads, data.workers)
    if needs_no_files(data):
        return _on_device(config, load_dataset(data))
    builder = open_dataset(data)
    reason = why_host(data.name, builder, data.image_size)
    if not reason:
        try:
            return _on_device(config, load_builder(data, builder))
        except NotOneArrayError as error:  # Only some of the sizes had been looked at.
            reason = str(error)
    return _on_host(config, builder, options, reason)


def _on_device(config: ConfigDict, dataset: Dataset) -> DeviceFeed:
    data = config.data
    return DeviceFeed(dataset, pad=data.pad, crop_size=data.crop_size, **_arguments(config))


def _on_host(
    config: ConfigDict, builder: tfds.core.DatasetBuilder, options: HostOptions, reason: str
) -> HostFeed:
    data = config.data
    crop_size = data.crop_size or data.image_size or CROP_SIZE
    if data.path is not None or data.image_size is not None:
        logging.warning(
            "Images are decoded as they are needed: %s. In place of data.pad and data.image_size, "
            "the network is trained on random-resized-crops of data.crop_size, here %d pixels",
            *(reason, crop_size),
        )
    return HostFeed(
        data.name,
        builder,
        chosen=_choose(data, builder),
        mean_std=data.mean_std,
        crop_size=crop_size,
        options=options,
        **_arguments(config),
    )


def _arguments(config: ConfigDict) -> dict[str, Any]:
    """What both kinds of feed are told."""
    return {
        "seed": config.seed,
        "batch_size": images_per_step(config),
        "eval_batch_size": config.eval_batch_size,
        "flip": config.data.flip,
        "dtype": jnp.dtype(config.model.dtype),
        "n_reps": config.data.n_reps,
    }


def _choose(data: ConfigDict, builder: tfds.core.DatasetBuilder) -> SplitRows:
    """Rows by chance alone: labels would take a pass over all records."""
    size = builder.info.splits[split_names(data.name, builder)[0]].num_examples
    return choose_rows(
        np.zeros(size, np.int8),
        split=data.split,
        train_fraction=data.train_fraction,
        seed=data.split_seed,
    )


def why_host(name: str, builder: tfds.core.DatasetBuilder, size: int | None = None) -> str:
    """Why a data set cannot be one array in memory: images differ in size or are too many.

    Where the data set says neither the shape of its images nor their sizes, some of each split are
    looked at.

    Args:
      name: the name that it was asked for by.
      builder: a prepared data set.
      size: side of the square that its images are to be brought to, or None.

    Returns:
      The reason in words if its images have to be decoded as they are needed, or else ''.

    Raises:
      ValueError: if it has no image or label or lacks a split.

    Example:
      >>> import tempfile
      >>> from jaxws.data.sources.digits import Builder
      >>> from jaxws.data.sources.prepare import prepare
      >>> digits = prepare(Builder(data_dir=tempfile.mkdtemp()))
      >>> why_host("digits", digits)
      ''
      >>> why_host("digits", digits, 4096)
      'at 4096x4096 pixels all of them would take 45 GiB of memory, and 8 GiB are used at most'
    """
    height, width, channels = builder.info.features[feature_keys(builder)[0]].shape
    sizes = folder_sizes(builder)
    splits = split_names(name, builder)
    if size is not None:
        shapes = {(size, size)}
    elif sizes:
        return f"they have {sizes[0]}, such as {sizes[1]} and {sizes[2]}"
    elif None in (height, width):
        records = [Records(builder, split) for split in splits]
        shapes = {shape for some in records for shape in _some_sizes(some)}
    else:
        shapes = {(width, height)}
    if len(shapes) > 1:
        some = " and ".join(f"{width}x{height}" for width, height in sorted(shapes)[:2])
        return f"they have several sizes, such as {some}"
    images = sum(info.num_examples for info in builder.info.splits.values())
    for width, height in shapes:
        total = images * width * height * (channels or 3)
        if total > MAX_BYTES:
            return (
                f"at {width}x{height} pixels all of them would take {total / 1024**3:.0f} GiB of "
                f"memory, and {MAX_BYTES / 1024**3:g} GiB are used at most"
            )
    return ""


def _some_sizes(records: Records) -> set[tuple[int, int]]:
    """Sizes of images spread evenly over the records, from their headers."""
    step = -(-len(records) // _LOOK_AT)
    found = {image_size(records[index].data) for index in range(0, len(records), step)}
    return {size for size in found if size is not None}  # Decoding will say what is damaged.
