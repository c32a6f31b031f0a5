"""A run, made ready: configuration, data, network and directory, all checked."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from jaxws import data
from jaxws.config.checks import check_config
from jaxws.config.numbers import MOST_WHOLE
from jaxws.config.registry import ARCHITECTURES, SHARING_RULES, add_own_fields, is_outside
from jaxws.core.named_leaves import named_leaves
from jaxws.data.feed import OneDevice
from jaxws.models.build import build_model, variable_shapes
from jaxws.parallel import processes
from jaxws.parallel.choice import Choice
from jaxws.parallel.placement import MeshPlacing
from jaxws.records.followed_workdir import open_workdir
from jaxws.records.places import opened_place
from jaxws.records.tensorboard import check_installed
from jaxws.records.workdir import Workdir
from jaxws.training.dale_settings import check_dale
from jaxws.training.initial_weights import InitialWeights, initial_weights
from jaxws.training.optimizers import check_leaves
from jaxws.training.run_mesh import run_mesh
from jaxws.training.same_run import check_same_run
from jaxws.training.topography import check_topography, make_topography
from jaxws.training.weight_sharing import Sharing, check_shareable, make_sharing


class Run(NamedTuple):
    """Everything that :func:`jaxws.training.loop.train` needs, checked and ready.

    Attributes:
      config: the configuration.
      workdir: the run's directory.
      feed: where batches come from, and what is known of the data.
      model: the network.
      sharing: when and how its weights are shared.
      mesh: the devices that it uses.
      choice: why they are arranged so; None where that was asked for or there is one.
      initial: the weights that it starts from, or None: they are drawn, or its checkpoint has them.
    """

    config: ConfigDict
    workdir: Workdir
    feed: data.Feed
    model: nn.Module
    sharing: Sharing
    mesh: jax.sharding.Mesh
    choice: Choice | None = None
    initial: InitialWeights | None = None

    @property
    def last_step(self) -> int:
        """The step at which the run ends."""
        steps = self.config.epochs * self.feed.steps_per_epoch
        return min(steps, self.config.max_steps or steps)

    def evaluates(self, step: int) -> bool:
        """Whether the network is evaluated after a step that ends an epoch, or the run.

        Args:
          step: number of steps done.

        Returns:
          Whether ``config.evaluate_every`` names that epoch, or the run ends there.
        """
        period = self.config.evaluate_every * self.feed.steps_per_epoch
        return step % period == 0 or step >= self.last_step


def prepare(config: ConfigDict, workdir: str | Path) -> Run:
    """Checks everything that a user can get wrong, before a directory is made.

    Args:
      config: see :mod:`jaxws.config.fields`; gets those fields of its own network and sharing rule
        that it has not.
      workdir: the run's directory, which may be in a bucket: ``gs://BUCKET/DIRECTORY``.

    Returns:
      A run, ready for :func:`jaxws.training.loop.train`.

    Raises:
      ValueError: what is wrong with the configuration, the data or the directory.
    """
    add_own_fields(config)
    check_config(config)
    SHARING_RULES.load(config.sharing.mode).check(config)
    if config.tensorboard:
        check_installed()
    with processes.first_alone("data"):  # which may have to be made first
        feed = data.build_feed(config)
    model = build_model(config.model, len(feed.class_names))
    ARCHITECTURES.load(config.model.architecture).check(config.model, feed.image_shape)
    if (steps := config.epochs * feed.steps_per_epoch) > MOST_WHOLE:
        raise ValueError(
            f"config.epochs={config.epochs} are {steps} steps of these data: expected at most"
            f" {MOST_WHOLE}, which is what a step's number may be (int32)."
        )
    sharing = make_sharing(config, model, feed.image_shape, feed.steps_per_epoch)
    # Networks of the library have no masks; to look takes a part of a second.
    may_have_masks = bool(sharing.every) and is_outside(config.model.architecture)
    topography, has_dale = make_topography(config), config.plasticity.dale.signs is not None
    has_patterns = config.optimizer.freeze or config.optimizer.decay_mask or has_dale
    if has_patterns or topography or may_have_masks:
        params = variable_shapes(model, feed.image_shape)["params"]
        names = list(named_leaves(params))
        check_leaves(config, names)
        check_dale(config, params, sharing.frozen)
        check_shareable(sharing, names)
        check_topography(topography, params, names, sharing.frozen)
    check_same_run(config, feed, workdir)
    mesh, choice = run_mesh(config, model, sharing, feed.image_shape)
    feed.placing = OneDevice() if mesh.size == 1 else MeshPlacing(mesh)
    with opened_place(workdir) as (path, staging):
        initial = initial_weights(config, path, model, feed.image_shape)
        opened = open_workdir(path, config, feed.fingerprint(), staging)
    return Run(config, opened, feed, model, sharing, mesh, choice, initial)
