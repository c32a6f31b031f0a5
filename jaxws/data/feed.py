"""Where a run's batches come from: one interface, two ways to keep it.

A feed has two halves. ``train_inputs`` runs on the host and yields what goes into each jitted step;
its ``batching`` is called inside that step and makes a batch of it. That one holds no data and can
be hashed, so that steps of equal settings are one program. A data set that fits in memory lies on
the device as a whole (``jaxws.data.device.feed.DeviceFeed``); images are decoded and cut on the
host where it does not (``jaxws.data.host.feed.HostFeed``). The training loop has one of them and
does not know which.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import jax
import numpy as np

from jaxws.data.batch import Batch


class Batching(Protocol):
    """How batches are made of a feed's inputs; hashable, and equal where the programs are."""

    def train_batch(self, inputs: Any, step: jax.Array) -> Batch:
        """The batch of a step; pure, to be called inside a jit.

        Args:
          inputs: what ``Feed.train_inputs`` yielded for the step.
          step: number of the step.

        Returns:
          The batch, augmented and normalised.
        """

    def eval_batch(self, inputs: Any) -> Batch:
        """The batch that ``Feed.eval_inputs`` stands for; pure, to be called inside a jit."""


class Feed(Protocol):
    """What a training loop asks of its data.

    Every random choice is a function of (seed, step): a feed has no state, and a run that resumes
    at a step gets the batches that it would have got.

    Attributes:
      name: name of the data set, or of the folder that its images were read from.
      path: that folder; None where it is no folder of images.
      class_names: one name for each label.
      image_shape: ``(H, W, c)``, what the network sees.
      train_size: number of training images.
      test_size: number of test images.
      test_kind: 'test', or 'validation' where these are training images held out.
      steps_per_epoch: batches that show every training image once; the last may be ragged.
      mean: float32 ``(c,)``, what was subtracted from pixels in [0, 1] units.
      std: float32 ``(c,)``, what they were divided by.
    """

    name: str
    path: str | None
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train_size: int
    test_size: int
    test_kind: str
    steps_per_epoch: int
    mean: np.ndarray
    std: np.ndarray

    @property
    def batching(self) -> Batching:
        """Makes batches of the inputs."""

    def train_inputs(self, first_step: int) -> Iterator[Any]:
        """What goes into each step from a step on, without end.

        Args:
          first_step: the first step, counted from the beginning of the run.

        Yields:
          Pytrees of arrays that are on the device or on their way to it.
        """

    def eval_inputs(self, split: str = "test") -> Iterator[Any]:
        """What goes into each step of an evaluation; together they show every image once.

        Args:
          split: 'test', or 'train' for the training images as test images are seen.

        Yields:
          Pytrees of arrays that are on the device or on their way to it.
        """

    def fingerprint(self) -> dict[str, Any]:
        """What tells the data from others, so that no run goes on with other images."""
