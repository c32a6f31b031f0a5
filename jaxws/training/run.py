"""A run, made ready: configuration, data, network and directory, all checked."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxws import data
from jaxws.config.checks import check_config
from jaxws.layers.conv import LocalConv
from jaxws.layers.dense import LocalDense
from jaxws.models import ResNet, ViT, resnet18, resnet_cifar, vit
from jaxws.records.tensorboard import check_installed
from jaxws.records.workdir import Workdir
from jaxws.training.weight_sharing import Sharing, make_sharing


class Run(NamedTuple):
    """Everything that :func:`jaxws.training.loop.train` needs, checked and ready.

    Attributes:
      config: the configuration.
      workdir: the run's directory.
      feed: where batches come from, and what is known of the data.
      model: the network.
      sharing: when and how its weights are shared.
    """

    config: ConfigDict
    workdir: Workdir
    feed: data.Feed
    model: ResNet | ViT
    sharing: Sharing

    @property
    def last_step(self) -> int:
        """The step at which the run ends."""
        steps = self.config.epochs * self.feed.steps_per_epoch
        return min(steps, self.config.max_steps or steps)


def prepare(config: ConfigDict, workdir: str | Path) -> Run:
    """Checks everything that a user can get wrong, before a directory is made.

    Args:
      config: see :mod:`jaxws.config.fields`.
      workdir: the run's directory.

    Returns:
      A run, ready for :func:`jaxws.training.loop.train`.

    Raises:
      ValueError: what is wrong with the configuration, the data or the directory.
    """
    check_config(config)
    if config.tensorboard:
        check_installed()
    feed = data.build_feed(config)
    model = build_model(config.model, len(feed.class_names))
    if isinstance(model, ViT):
        model.check_image(feed.image_shape)
    sharing = make_sharing(config, model, feed.image_shape, feed.steps_per_epoch)
    return Run(config, Workdir(workdir, config, feed.facts()), feed, model, sharing)


def build_model(config: ConfigDict, num_classes: int) -> ResNet | ViT:
    """Builds the network of ``config.model``.

    Args:
      config: ``config.model``.
      num_classes: size of the output.

    Returns:
      The network.

    Raises:
      ValueError: a depth that the architecture does not have; heads that do not divide the width
        of a ViT, projections that it does not have, or none.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> build_model(base_config().model, num_classes=10).stage_sizes
      (3, 3, 3)
    """
    if config.architecture == "vit":
        return _build_vit(config, num_classes)
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


def _build_vit(config: ConfigDict, num_classes: int) -> ViT:
    local = tuple(config.local_projections)
    if config.connectivity == "local" and not local:
        raise ValueError(
            "config.model.local_projections=() with config.model.connectivity='local': name some"
            " projections, or set connectivity='conv', which shares all."
        )
    if config.first_layer_conv:
        raise ValueError(
            "config.model.first_layer_conv=True is for ResNets: a ViT shares its first layer where"
            " config.model.local_projections leaves 'embedding' out."
        )
    return vit(
        config.patch_size,
        depth=config.depth,
        width=config.width,
        heads=config.heads,
        mlp_ratio=config.mlp_ratio,
        num_classes=num_classes,
        dense=LocalDense if config.connectivity == "local" else nn.Dense,
        local_projections=local,
        same_start=config.same_start and config.connectivity == "local",
        dtype=jnp.dtype(config.dtype),
    )
