"""A run, made ready: configuration, data, network and directory, all checked."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxws import data
from jaxws.config import check_config
from jaxws.data.splits import rows_checksum
from jaxws.layers import LocalConv
from jaxws.models import ResNet, resnet18, resnet_cifar
from jaxws.workdir import Workdir


class Run(NamedTuple):
    """Everything that :func:`jaxws.loop.train` needs, checked and ready.

    Attributes:
      config: the configuration.
      workdir: the run's directory.
      dataset: images on the host, and what is known of them.
      model: the network.
      steps_per_epoch: batches in an epoch, a ragged last one included.
    """

    config: ConfigDict
    workdir: Workdir
    dataset: data.Dataset
    model: ResNet
    steps_per_epoch: int

    @property
    def last_step(self) -> int:
        """The step at which the run ends."""
        steps = self.config.epochs * self.steps_per_epoch
        return min(steps, self.config.max_steps or steps)


def prepare(config: ConfigDict, workdir: str | Path) -> Run:
    """Checks everything that a user can get wrong, before a directory is made.

    Args:
      config: see :mod:`jaxws.config`.
      workdir: the run's directory.

    Returns:
      A run, ready for :func:`jaxws.loop.train`.

    Raises:
      ValueError: what is wrong with the configuration, the data or the directory.
    """
    check_config(config)
    dataset = data.load_dataset(config.data)
    data.view_shape(dataset.image_shape, config.data.crop_size)
    steps = data.steps_per_epoch(len(dataset.train.labels), config.batch_size)
    model = build_model(config.model, len(dataset.class_names))
    return Run(config, Workdir(workdir, config, _facts(dataset)), dataset, model, steps)


def _facts(dataset: data.Dataset) -> dict[str, Any]:
    """What tells a data set from another one, so that no run goes on with other images."""
    facts: dict[str, Any] = {"classes": len(dataset.class_names)}
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        facts[f"{name}_images"] = len(split.labels)
        images, labels = np.asarray(split.images), np.asarray(split.labels)
        facts[f"{name}_crc32"] = zlib.crc32(labels.data, zlib.crc32(images.data))
    for name, rows in dataset.chosen._asdict().items():
        facts[f"{name}_rows_crc32"] = None if rows is None else rows_checksum(rows)
    return facts


def build_model(config: ConfigDict, num_classes: int) -> ResNet:
    """Builds the network of ``config.model``.

    Args:
      config: ``config.model``.
      num_classes: size of the output.

    Returns:
      The network.

    Raises:
      ValueError: a depth that the architecture does not have.

    Example:
      >>> from jaxws.config import base_config
      >>> build_model(base_config().model, num_classes=10).stage_sizes
      (3, 3, 3)
    """
    arguments = {
        "width": config.width,
        "num_classes": num_classes,
        "conv": LocalConv if config.connectivity == "local" else nn.Conv,
        "first_conv": nn.Conv if config.first_layer_conv else None,
        "dtype": jnp.dtype(config.dtype),
    }
    if config.architecture == "resnet18":
        return resnet18(**arguments)
    return resnet_cifar(config.depth, **arguments)
