"""Data that are not here: what a program must know of them to be compiled, and no more."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxws.config.fields import images_per_step
from jaxws.data.build import CROP_SIZE
from jaxws.data.device.crop import view_shape
from jaxws.data.device.dataset import Split
from jaxws.data.device.feed import DeviceBatching, DeviceInputs
from jaxws.data.device.order import steps_per_epoch
from jaxws.data.feed import Batching
from jaxws.data.host.feed import HostBatching, HostInputs
from jaxws.data.sources.official import OFFICIAL
from jaxws.data.sources.read import MAX_BYTES
from jaxws.data.splits import choose_rows


class _Facts(NamedTuple):
    """Size of the images, or None if they differ in it, channels, classes and training images."""

    size: int | None
    channels: int
    classes: int
    images: int


def _official(name: str, size: int | None, classes: int) -> _Facts:
    return _Facts(size, 3, classes, OFFICIAL[name].images["train"])


_KNOWN = {
    "digits": _Facts(24, 1, 10, 1437),
    "cifar10": _official("cifar10", 32, 10),
    "cifar100": _official("cifar100", 32, 100),
    "tiny_imagenet": _official("tiny_imagenet", 64, 200),
    "imagenet2012": _official("imagenet2012", None, 1000),
}


class AssumedFeed(NamedTuple):
    """What :class:`jaxws.data.feed.Feed` says of data, without the data.

    Attributes:
      name: of the data set.
      class_names: one for each label.
      image_shape: ``(H, W, c)``, what the network sees.
      train_size: number of training images.
      steps_per_epoch: batches that show every training image once.
      batching: makes the step's batch.
      inputs: of a step, shapes only.
      by_image: of the structure of ``inputs``: whether an array's first axis is the batch.
    """

    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train_size: int
    steps_per_epoch: int
    batching: Batching
    inputs: Any
    by_image: Any


def assumed_feed(config: ConfigDict) -> AssumedFeed:
    """What a configuration's data are, from what is publicly known of them.

    Args:
      config: see ``jaxws.config.fields``.

    Returns:
      A feed without data.

    Raises:
      ValueError: if nothing is known of the data set, or a field is impossible for it.

    Example:
      >>> from jaxws.config import base_config
      >>> feed = assumed_feed(base_config())
      >>> feed.image_shape, feed.steps_per_epoch, feed.inputs.order.shape
      ((32, 32, 3), 98, (98, 512))
    """
    name = config.data.name.partition(":")[0]
    if name not in _KNOWN:
        raise ValueError(
            f"config.data.name={config.data.name!r}: no data are read to compile only, and the"
            f" numbers of images and classes are known of {', '.join(map(repr, _KNOWN))} alone; set"
            " --config.data.name to the one that is most alike, and --config.data.crop_size."
        )
    facts, data = _KNOWN[name], config.data
    rows = choose_rows(
        np.zeros(facts.images, np.int8),
        split=data.split,
        train_fraction=data.train_fraction,
        seed=data.split_seed,
    )
    images = len(rows.train)
    steps = steps_per_epoch(images, images_per_step(config))
    size = data.image_size or facts.size
    made: tuple[tuple[int, int, int], Batching, Any, Any]
    # As build_feed decides.
    if size is None or facts.images * size**2 * facts.channels > MAX_BYTES:
        side = data.crop_size or data.image_size or CROP_SIZE
        made = _on_host(config, (side, side, facts.channels), images)
    else:
        made = _on_device(config, (size, size, facts.channels), images, steps)
    names, (seen, *rest) = tuple(map(str, range(facts.classes))), made
    return AssumedFeed(name, names, seen, images, steps, *rest)


def _on_host(
    config: ConfigDict, shape: tuple[int, int, int], images: int
) -> tuple[tuple[int, int, int], HostBatching, Any, Any]:
    image: Any = jax.ShapeDtypeStruct((config.batch_size, *shape), jnp.uint8)
    label: Any = jax.ShapeDtypeStruct((config.batch_size,), jnp.int32)
    by_image: Any = HostInputs(True, True, False)  # type: ignore[arg-type]
    batching = HostBatching(
        *_moments(shape),
        dtype=np.dtype(jnp.dtype(config.model.dtype)),
        flip=config.data.flip,
        ragged=images % images_per_step(config) != 0,
    )
    return shape, batching, HostInputs(image, label, _key()), by_image


def _on_device(
    config: ConfigDict, shape: tuple[int, int, int], images: int, steps: int
) -> tuple[tuple[int, int, int], DeviceBatching, Any, Any]:
    data = config.data
    pixels: Any = jax.ShapeDtypeStruct((images, math.prod(shape)), jnp.uint8)
    labels: Any = jax.ShapeDtypeStruct((images,), jnp.int32)
    order: Any = jax.ShapeDtypeStruct((steps, images_per_step(config)), jnp.int32)
    inputs = DeviceInputs(Split(pixels, labels), order, _key())
    mean, std = _moments(shape)
    batching = DeviceBatching(
        image_shape=shape,
        crop_size=data.crop_size,
        mean=mean,
        std=std,
        dtype=np.dtype(jnp.dtype(config.model.dtype)),
        pad=data.pad,
        flip=data.flip,
        n_reps=data.n_reps,
        ragged=images % images_per_step(config) != 0,
        steps_per_epoch=steps,
    )
    seen = view_shape(shape, data.crop_size)
    return seen, batching, inputs, jax.tree.map(lambda _: False, inputs)


def _moments(shape: tuple[int, int, int]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Any will do: they are constants of the program, and change no cost."""
    return (0.5,) * shape[-1], (0.25,) * shape[-1]


def _key() -> Any:
    return jax.eval_shape(lambda: jax.random.key(0))
