"""A feed of a data set that lies on the device as a whole: batches are cut inside the step."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxws.data.batch import Batch
from jaxws.data.device.augment import evaluation_batch, training_batch
from jaxws.data.device.crop import view_shape
from jaxws.data.device.dataset import Dataset, Split
from jaxws.data.device.order import epoch_order, evaluation_order, steps_per_epoch
from jaxws.data.feed import OneDevice, Placing, evaluation_rows
from jaxws.data.splits import rows_fingerprint, test_kind


class DeviceInputs(NamedTuple):
    """What a step needs of data that lie on the device.

    Attributes:
      split: all images and labels.
      order: int32 ``(steps, n)``, which images each step of the epoch sees, or ``(n,)`` in an
        evaluation.
      key: from which all steps draw crops and flips; None in an evaluation.
    """

    split: Split
    order: jax.Array
    key: Any


class DeviceBatching(NamedTuple):
    """Cuts batches out of data that lie on the device.

    Attributes:
      image_shape: ``(H, W, c)`` of the images that lie there.
      crop_size: see ``training_batch``, as for all that follow.
      mean: ``(c,)``.
      std: ``(c,)``.
      dtype: of the images in batches.
      pad: in training.
      flip: in training.
      n_reps: in training.
      ragged: whether the last batch of an epoch is filled up.
      steps_per_epoch: batches in an epoch.
    """

    image_shape: tuple[int, int, int]
    crop_size: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: np.dtype
    pad: int
    flip: bool
    n_reps: int
    ragged: bool
    steps_per_epoch: int

    def train_batch(self, inputs: DeviceInputs, step: jax.Array) -> Batch:
        """Gathers, crop, flip and normalise the images of a step."""
        return training_batch(
            inputs.split,
            inputs.order[step % self.steps_per_epoch],
            jax.random.fold_in(inputs.key, step),
            ragged=self.ragged,
            pad=self.pad,
            flip=self.flip,
            n_reps=self.n_reps,
            **self._images(),
        )

    def eval_batch(self, inputs: DeviceInputs) -> Batch:
        """Gathers and normalises the images of a step."""
        return evaluation_batch(inputs.split, inputs.order, ragged=True, **self._images())

    def _images(self) -> dict[str, Any]:
        return {
            "image_shape": self.image_shape,
            "crop_size": self.crop_size,
            "mean": self.mean,
            "std": self.std,
            "dtype": self.dtype,
        }


class DeviceFeed:
    """A data set that lies on the device as a whole; batches are cut inside the step.

    Example:
      >>> import jax, jax.numpy as jnp, numpy as np
      >>> from jaxws.data.splits import SplitRows
      >>> split = Split(np.zeros((10, 12), np.uint8), np.arange(10, dtype=np.int32))
      >>> dataset = Dataset("ten", split, split, (2, 2, 3), tuple("abcdefghij"), np.zeros(3),
      ...                   np.ones(3), SplitRows(np.arange(10), None))
      >>> feed = DeviceFeed(dataset, seed=0, batch_size=4, eval_batch_size=4, pad=0, flip=True,
      ...                   dtype=jnp.float32)
      >>> feed.steps_per_epoch
      3
      >>> inputs = next(feed.train_inputs(first_step=2))
      >>> int(feed.batching.train_batch(inputs, jnp.array(2)).mask.sum())
      2
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        seed: int,
        batch_size: int,
        eval_batch_size: int,
        pad: int,
        flip: bool,
        dtype: Any,
        crop_size: int | None = None,
        n_reps: int = 1,
    ):
        """Notes what to do; nothing is put on the device before inputs are asked for.

        Args:
          dataset: images in memory.
          seed: of order, crops and flips.
          batch_size: images of a training step.
          eval_batch_size: images of an evaluation step.
          pad: see ``training_batch``.
          flip: see ``training_batch``.
          dtype: of the images in batches.
          crop_size: see ``training_batch``.
          n_reps: views of each image of a step, which sees ``batch_size * n_reps`` of them.

        Raises:
          ValueError: if the batch is larger than the data, or the crop than the images.
        """
        self.dataset = dataset
        self.name, self.class_names = dataset.name, dataset.class_names
        self.path: str | None = None  # build_feed knows
        self.mean, self.std = dataset.mean, dataset.std
        self.image_shape = view_shape(dataset.image_shape, crop_size)
        self.train_size, self.test_size = len(dataset.train.labels), len(dataset.test.labels)
        self.test_kind = test_kind(dataset.chosen)
        self.steps_per_epoch = steps_per_epoch(self.train_size, batch_size)
        self._seed, self._batch_size = seed, batch_size
        self._eval_batch_size = eval_batch_size
        self.placing: Placing = OneDevice()
        self.batching = DeviceBatching(
            image_shape=dataset.image_shape,
            crop_size=crop_size,
            mean=tuple(dataset.mean.tolist()),
            std=tuple(dataset.std.tolist()),
            dtype=np.dtype(dtype),
            pad=pad,
            flip=flip,
            n_reps=n_reps,
            ragged=self.train_size % batch_size != 0,
            steps_per_epoch=self.steps_per_epoch,
        )
        self._on_device: dict[str, Split] = {}

    def train_inputs(self, first_step: int) -> Iterator[DeviceInputs]:
        """The whole split, and the order of the step's epoch."""
        split = self._put("train")
        key = self.placing.everywhere(jax.random.key(self._seed))
        epoch, begin = divmod(first_step, self.steps_per_epoch)
        while True:
            # By way of the host: of which devices JAX computes it depends on the thread's mesh.
            order = np.asarray(epoch_order(self._seed, epoch, self.train_size, self._batch_size))
            order = self.placing.everywhere(order)
            for _ in range(begin, self.steps_per_epoch):
                yield DeviceInputs(split, order, key)
            epoch, begin = epoch + 1, 0

    def eval_inputs(self, split: str = "test") -> Iterator[DeviceInputs]:
        """The whole split, and the images of each step in their own order."""
        size = {"train": self.train_size, "test": self.test_size}[split]
        images = self._put(split)
        rows = evaluation_rows(size, self._eval_batch_size, self.placing)
        for indices in np.asarray(evaluation_order(size, rows)):
            yield DeviceInputs(images, self.placing.everywhere(indices), None)

    def fingerprint(self) -> dict[str, Any]:
        """Numbers of classes and images, checksums of all pixels and labels, and which rows."""
        facts: dict[str, Any] = {"classes": len(self.class_names)}
        for name in ("train", "test"):
            split = getattr(self.dataset, name)
            images, labels = np.asarray(split.images), np.asarray(split.labels)
            facts[f"{name}_images"] = len(labels)
            facts[f"{name}_crc32"] = zlib.crc32(labels.data, zlib.crc32(images.data))
        return facts | rows_fingerprint(self.dataset.chosen)

    def _put(self, name: str) -> Split:
        """The split on every device, where it stays."""
        if name not in self._on_device:
            self._on_device[name] = self.placing.everywhere(getattr(self.dataset, name))
        return self._on_device[name]
