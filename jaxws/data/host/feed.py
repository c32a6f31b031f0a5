"""Batches of images that are decoded and cut on the host, for data sets such as ImageNet."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator
from concurrent import futures
from typing import Any, NamedTuple

import jax
import numpy as np
import tensorflow_datasets as tfds

from jaxws.config.identity import NOTES
from jaxws.data.batch import Batch, host_batch
from jaxws.data.device.order import steps_per_epoch
from jaxws.data.feed import OneDevice, Placing, evaluation_rows
from jaxws.data.host.ahead import MadeAhead
from jaxws.data.host.batches import Cropper, evaluation_batches, training_batches
from jaxws.data.host.decoders import check_decoder
from jaxws.data.host.workers import available_cores, suitable_workers
from jaxws.data.sources.features import feature_keys, split_names
from jaxws.data.sources.folder import content_of
from jaxws.data.sources.names import class_names
from jaxws.data.sources.records import Records
from jaxws.data.splits import SplitRows, rows_fingerprint, test_kind
from jaxws.data.statistics import mean_and_std

# Mean and standard deviation are taken from so many training images.
_SAMPLE = 1000
# Keeps the keys of flips apart from others that are folded from the same seed.
_FLIP_STREAM = 0x666C6970


class HostOptions(NamedTuple):
    """How the host makes batches; only ``decoder`` changes a pixel.

    Attributes:
      decoder: 'pil' or 'simplejpeg'.
      threads: that decode, in this process or in each worker; None for one per core, or one per
        worker.
      workers: processes that decode, 0 for threads of this process; None for what suits the
        machine and the data, or for 0 if ``threads`` is given.
    """

    decoder: str = "pil"
    threads: int | None = None
    workers: int | None = None


class HostInputs(NamedTuple):
    """What a step needs of data that lie on the host.

    Attributes:
      image: uint8 ``(n, H, W, c)`` crops, on the device.
      label: int32 ``(n,)``, -1 for filling.
      key: from which all steps draw flips; None in an evaluation.
    """

    image: jax.Array
    label: jax.Array
    key: Any


class HostBatching(NamedTuple):
    """Makes batches of crops that were cut on the host.

    Attributes:
      mean: ``(c,)``, see ``host_batch``, as for all that follow.
      std: ``(c,)``.
      dtype: of the images in batches.
      flip: in training.
      ragged: whether the last batch of an epoch is filled up.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: np.dtype
    flip: bool
    ragged: bool

    def train_batch(self, inputs: HostInputs, step: jax.Array) -> Batch:
        """Flips and normalises the crops of a step."""
        key = jax.random.fold_in(inputs.key, step)
        return self._batch(inputs, key, flip=self.flip, ragged=self.ragged)

    def eval_batch(self, inputs: HostInputs) -> Batch:
        """Normalises the crops of a step."""
        return self._batch(inputs, None, flip=False, ragged=True)

    def _batch(self, inputs: HostInputs, key: Any, *, flip: bool, ragged: bool) -> Batch:
        return host_batch(
            inputs.image,
            inputs.label,
            key,
            flip=flip,
            mean=self.mean,
            std=self.std,
            dtype=self.dtype,
            ragged=ragged,
        )


class _Put(Iterator[HostInputs]):
    """Batches on their way to the devices."""

    def __init__(self, batches: MadeAhead, placing: Placing, rows: int, key: jax.Array | None):
        self._batches, self._placing, self._rows, self._key = batches, placing, rows, key
        self.interrupt, self.close = batches.interrupt, batches.close

    def __next__(self) -> HostInputs:
        batch = next(self._batches)
        image, label = self._placing.batch((batch.image, batch.label), self._rows)
        return HostInputs(image, label, self._key)


class HostFeed:
    """A prepared data set whose images are decoded as they are needed.

    Training images are random-resized-crops; test images are resized to 8/7 of the crop (256 for
    224) on their shorter side and cropped in the centre. Both are cut on the host as uint8; flips,
    normalisation and the cast happen in the step.
    """

    def __init__(
        self,
        name: str,
        builder: tfds.core.DatasetBuilder,
        *,
        seed: int,
        batch_size: int,
        eval_batch_size: int,
        flip: bool,
        dtype: Any,
        chosen: SplitRows | None = None,
        mean_std: str = "train",
        crop_size: int = 224,
        n_reps: int = 1,
        options: HostOptions = HostOptions(),  # noqa: B008 - a constant
    ):
        """Opens the data set; mean and standard deviation are taken from a sample of it.

        Args:
          name: name of the data set.
          builder: a prepared data set.
          seed: of order, crops and flips.
          batch_size: images of a training step.
          eval_batch_size: images of an evaluation step.
          flip: mirror training images left and right with probability one half.
          dtype: of the images in batches.
          chosen: records to train on, and to test on if any are held out; None for all.
          mean_std: 'train' or 'imagenet', whose mean and standard deviation to normalise by.
          crop_size: side of the crops in pixels.
          n_reps: crops of each image of a step, which sees ``batch_size * n_reps`` of them.
          options: how the host makes batches.

        Raises:
          ValueError: if the batch is larger than the data, the decoder is not installed, or the
            data set lacks a split, an image or a label.
        """
        check_decoder(options.decoder)
        self.name, self._builder = name, builder
        self.path: str | None = None  # build_feed knows
        self._splits = split_names(name, builder)
        chosen = chosen or SplitRows(np.arange(builder.info.splits["train"].num_examples), None)
        held_out = chosen.validation is not None
        self._train = Records(builder, self._splits[0], chosen.train)
        self._test = Records(builder, self._splits[0 if held_out else 1], chosen.validation)
        self._chosen, self.test_kind = chosen, test_kind(chosen)
        self.class_names = class_names(builder, feature_keys(builder)[1])
        self.image_shape = (crop_size, crop_size, self._train.channels)
        self.train_size, self.test_size = len(self._train), len(self._test)
        self.steps_per_epoch = steps_per_epoch(self.train_size, batch_size)
        self._cutter = Cropper(crop_size, self._train.channels, options.decoder)
        self._seed, self._batch_size, self._n_reps = seed, batch_size, n_reps
        self._eval_batch_size = eval_batch_size
        self._options = options
        self.placing: Placing = OneDevice()
        self.mean, self.std = self._moments(mean_std)
        self.batching = HostBatching(
            mean=tuple(self.mean.tolist()),
            std=tuple(self.std.tolist()),
            dtype=np.dtype(dtype),
            flip=flip,
            ragged=self.train_size % batch_size != 0,
        )

    def train_inputs(self, first_step: int) -> Iterator[HostInputs]:
        """Crops of each step, on their way to the devices."""
        key = jax.random.fold_in(jax.random.key(self._seed), _FLIP_STREAM)
        rows = self._batch_size * self._n_reps
        batches = training_batches(
            self._train,
            self._cutter,
            seed=self._seed,
            batch_size=self._batch_size,
            n_reps=self._n_reps,
            rows=self.placing.rows(rows),
        )
        ahead = self._made_ahead(batches[first_step:], self.train_size)
        return _Put(ahead, self.placing, rows, self.placing.everywhere(key))

    def eval_inputs(self, split: str = "test") -> Iterator[HostInputs]:
        """Centres crops of a split's images, in their own order."""
        records = {"train": self._train, "test": self._test}[split]
        rows = evaluation_rows(len(records), self._eval_batch_size, self.placing)
        batches = evaluation_batches(
            records, self._cutter, batch_size=rows, rows=self.placing.rows(rows)
        )
        return _Put(self._made_ahead(batches, len(records)), self.placing, rows, None)

    def fingerprint(self) -> dict[str, Any]:
        """Numbers of classes and images, checksums of what TFDS notes and of a folder's files."""
        info = self._builder.info
        notes = [info.full_name, self.class_names] + [
            [name, info.splits[name].shard_lengths, info.splits[name].num_bytes]
            for name in self._splits
        ]
        return {
            "classes": len(self.class_names),
            "train_images": self.train_size,
            "test_images": self.test_size,
            NOTES: zlib.crc32(json.dumps(notes).encode()),
            **content_of(self._builder),
            **rows_fingerprint(self._chosen),
        }

    def _made_ahead(self, batches: Any, images: int) -> MadeAhead:
        threads, workers = self._options.threads, self._options.workers
        if workers is None:
            crops = max(self._batch_size * self._n_reps, self._eval_batch_size)
            here = len(self.placing.rows(self.placing.parts)) / self.placing.parts
            size = math.ceil(here * crops) * math.prod(self.image_shape)
            suitable = suitable_workers(math.ceil(here * images), size)
            workers = suitable if threads is None else 0
        return MadeAhead(batches, threads=threads, workers=workers)

    def _moments(self, mean_std: str) -> tuple[np.ndarray, np.ndarray]:
        if mean_std != "train":  # No image is needed.
            return mean_and_std(np.empty((0, 1, 1, self._train.channels), np.uint8), mean_std)
        rows = np.linspace(0, self.train_size - 1, min(_SAMPLE, self.train_size)).astype(int)
        with futures.ThreadPoolExecutor(available_cores()) as pool:
            views = pool.map(lambda row: self._cutter.centre(self._train[row]).image, rows)
            return mean_and_std(np.concatenate(list(views)), mean_std)
