"""Where a run's batches come from: one interface, two ways to keep it.

A feed has two halves. ``train_inputs`` runs on the host and yields what goes into each jitted step;
its ``batching`` is called inside that step and makes a batch of it. That one holds no data and can
be hashed, so that steps of equal settings are one program. A data set that fits in memory lies on
the device as a whole (``jaxws.data.device.feed.DeviceFeed``); images are decoded and cut on the
host where it does not (``jaxws.data.host.feed.HostFeed``). The training loop has one of them and
does not know which.

Where batches lie is the caller's to say: a ``Placing`` names the rows of a batch that this process
makes, and puts them on its devices.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import jax
import numpy as np

from jaxws.data.batch import Batch


class Placing(Protocol):
    """Where batches lie: on one device, or split by rows over those of several processes.

    Attributes:
      parts: number of devices. Each holds as many rows of a batch as the others.
    """

    @property
    def parts(self) -> int:
        """Number of devices, which divides the rows of every batch."""

    def rows(self, n: int) -> np.ndarray:
        """Which rows of a batch this process makes.

        Args:
          n: rows of the batch, of all processes together.

        Returns:
          int ``(m,)``, ascending: those that its devices hold.
        """

    def batch(self, tree: Any, n: int) -> Any:
        """Puts a batch on the devices.

        Args:
          tree: NumPy arrays ``(m, ...)`` of the rows that :meth:`rows` names.
          n: rows of the batch, of all processes together.

        Returns:
          Arrays ``(n, ...)``.
        """

    def everywhere(self, tree: Any) -> Any:
        """Puts what every device needs as a whole on all of them.

        Args:
          tree: arrays, of NumPy or JAX, and random keys; the same in every process.

        Returns:
          Arrays of the same shapes.
        """


class OneDevice:
    """Everything lies on the default device of this process.

    Example:
      >>> OneDevice().rows(3).tolist()
      [0, 1, 2]
    """

    parts = 1

    def rows(self, n: int) -> np.ndarray:
        """All of them."""
        return np.arange(n)

    def batch(self, tree: Any, n: int) -> Any:
        """Puts it there."""
        del n
        return jax.device_put(tree)

    def everywhere(self, tree: Any) -> Any:
        """Puts it there."""
        return jax.device_put(tree)


def evaluation_rows(size: int, batch_size: int, placing: Placing) -> int:
    """Rows of a batch of an evaluation, some of which may stand for no image.

    Args:
      size: number of images.
      batch_size: images of a batch, if there are as many.
      placing: where batches lie.

    Returns:
      So many that every device gets the same number.

    Example:
      >>> evaluation_rows(size=100, batch_size=512, placing=OneDevice())
      100
    """
    return -(-min(batch_size, size) // placing.parts) * placing.parts


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
      placing: where batches lie; it may be set until inputs are asked for.
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
    placing: Placing

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
