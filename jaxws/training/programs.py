"""The programs of a run: functions that are compiled once in a process for equal settings.

Settings are static arguments of module-level jits, which keep programs by the settings' values. So
they are hashable, and hold no data: those are arguments, and nothing here keeps them alive. Runs of
equal settings, starts of a run and commands in one process share a program; a rollback, which
changes the learning rate, makes a new one.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from jaxws import data
from jaxws.core.packed import pack_kernels
from jaxws.parallel.compiled import Together
from jaxws.parallel.placement import placed, split_batch
from jaxws.training.metrics import METRICS, Metric, Sums
from jaxws.training.optimizers import OptimizerSettings
from jaxws.training.run import Run
from jaxws.training.state import TrainState, create_train_state, start_optimizer
from jaxws.training.step import StepInfo, train_step
from jaxws.training.topography import Topography, make_topography
from jaxws.training.weight_sharing import Sharing


@Together
@partial(jax.jit, static_argnames=("model", "optimizer", "image_shape", "dtype", "packed"))
def compiled_initial_state(
    key: jax.Array,
    *,
    model: nn.Module,
    optimizer: OptimizerSettings,
    image_shape: tuple[int, int, int],
    dtype: str,
    packed: bool,
) -> TrainState:
    """The state before the first step.

    Args:
      key: random key.
      model: the network.
      optimizer: its settings.
      image_shape: (H, W, c) of the images.
      dtype: that the model computes in.
      packed: whether to pack kernels and moments (:mod:`jaxws.core.packed`).

    Returns:
      The state.
    """
    state = create_train_state(key, model, optimizer.make(), image_shape, dtype)
    return placed(pack_kernels(state) if packed else state)


@Together
@partial(jax.jit, static_argnames="optimizer")
def compiled_start(state: TrainState, *, optimizer: OptimizerSettings) -> TrainState:
    """As :func:`jaxws.training.state.start_optimizer`.

    Args:
      state: before the first step, with given weights.
      optimizer: settings of the optimizer.

    Returns:
      The state.
    """
    return placed(start_optimizer(state, optimizer.make()))


class StepSettings(NamedTuple):
    """What a training step is compiled for: hashable, and without data.

    Attributes:
      batching: makes the step's batch, see :class:`jaxws.data.Feed`.
      model: see :func:`jaxws.training.step.train_step`, as for all that follow.
      optimizer: its settings.
      sharing: when and how to share.
      accumulate: number of parts to compute the gradients in.
      skip_nonfinite: whether to skip without a loss scale too.
      metrics: what to count of the images: names and functions.
      topography: losses of the weights themselves.
    """

    batching: data.Batching
    model: nn.Module
    optimizer: OptimizerSettings
    sharing: Sharing
    accumulate: int
    skip_nonfinite: bool
    metrics: tuple[tuple[str, Metric], ...]
    topography: Topography


def step_settings(run: Run, optimizer: OptimizerSettings) -> StepSettings:
    """Reads a run's configuration.

    Args:
      run: the run.
      optimizer: settings of its optimizer, with the learning rate that rollbacks have left.

    Returns:
      What its step is compiled for.
    """
    return StepSettings(
        batching=run.feed.batching,
        model=run.model,
        optimizer=optimizer,
        sharing=run.sharing,
        accumulate=run.config.accumulate,
        skip_nonfinite=run.config.divergence.action == "skip",
        metrics=tuple(METRICS.items()),
        topography=make_topography(run.config),
    )


@Together
@partial(jax.jit, static_argnames="settings", donate_argnums=0)
def compiled_step(
    state: TrainState, inputs: Any, *, settings: StepSettings
) -> tuple[TrainState, Sums, StepInfo]:
    """A training step, its batch included: data go in as uint8 and never come back.

    Args:
      state: before the step; donated.
      inputs: of the run's feed.
      settings: what to compile for.

    Returns:
      As :func:`jaxws.training.step.train_step`.
    """
    state, sums, info = train_step(
        state,
        split_batch(settings.batching.train_batch(inputs, state.step)),
        model=settings.model,
        optimizer=settings.optimizer.make(),
        sharing=settings.sharing,
        accumulate=settings.accumulate,
        skip_nonfinite=settings.skip_nonfinite,
        metrics=dict(settings.metrics),
        topography=settings.topography,
    )
    return placed(state), sums, info
