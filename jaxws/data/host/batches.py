"""Batches cut on the host from images that are decoded as they are needed.

A training set is a ``grain.MapDataset``: element s is what a process contributes to step s, as a
pure function of (seed, s). So order and crops do not depend on threads, workers, restarts or the
number of processes, and a run resumes from its step number: ``batches[step:]``.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import grain
import numpy as np

from jaxws.data.host.crops import DRAWS, RESIZE, centre_box, random_box, resized_shape
from jaxws.data.host.decoders import cut, decode_record
from jaxws.data.sources.records import Record, Records


class HostBatch(NamedTuple):
    """A batch on the host, or the part of it that belongs to a process.

    Attributes:
      image: uint8 ``(n, size, size, c)``.
      label: int32 ``(n,)``, -1 for the rows that fill up a ragged last batch.
    """

    image: np.ndarray
    label: np.ndarray


@dataclasses.dataclass(frozen=True)
class Cropper:
    """How records become square crops.

    Attributes:
      size: side of the crops in pixels.
      channels: 3 for RGB or 1 for grayscale.
      decoder: one of ``jaxws.config.choices.DECODERS``.
    """

    size: int
    channels: int
    decoder: str

    def random(self, record: Record, draws: np.ndarray) -> HostBatch:
        """Decodes once, then cuts a random crop for each row of ``draws``, (n, DRAWS)."""
        image = decode_record(record, self.channels, self.decoder)
        boxes = [random_box(uniform, *_size(image)) for uniform in draws]
        return self._batch([cut(image, box, (self.size, self.size)) for box in boxes], record.label)

    def centre(self, record: Record) -> HostBatch:
        """Resizes the shorter side to 8/7 of the crop's, 256 for 224, and cuts out the centre."""
        image = decode_record(record, self.channels, self.decoder)
        width, height = _size(image)
        shape = resized_shape(width, height, round(RESIZE * self.size))
        resized = cut(image, (0, 0, width, height), shape)
        return self._batch([cut(resized, centre_box(*shape, self.size))], record.label)

    def filling(self, count: int) -> HostBatch:
        """Rows that stand for no image."""
        shape = (count, self.size, self.size, self.channels)
        return HostBatch(np.zeros(shape, np.uint8), np.full(count, -1, np.int32))

    def _batch(self, crops: Sequence[object], label: int) -> HostBatch:
        arrays = [np.asarray(crop) for crop in crops]
        pixels = arrays[0] if len(arrays) == 1 else np.stack(arrays)
        shape = (len(crops), self.size, self.size, self.channels)
        return HostBatch(pixels.reshape(shape), np.full(len(crops), label, np.int32))


class Plan(NamedTuple):
    """What an image becomes in its batch.

    Attributes:
      row: number of the record, -1 for filling.
      draws: float ``(n_reps, DRAWS)`` uniform numbers that say where its crops lie, the first ones
        the same for every ``n_reps``; None for the centre.
    """

    row: int
    draws: np.ndarray | None = None


def training_batches(
    records: Records,
    cropper: Cropper,
    *,
    seed: int,
    batch_size: int,
    n_reps: int = 1,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.MapDataset:
    """All batches of a run that never ends.

    Each epoch shows every image once, in an order of its own; the rest of its last batch is
    filling. Crops of an image follow one another in the batch.

    Args:
      records: the training images.
      cropper: how to cut them.
      seed: of order and crops.
      batch_size: images of a step, of all processes together.
      n_reps: crops of each image.
      process_index: which part of each batch to make: row by row, the batch is the parts of
        process 0, 1, ... put together.
      process_count: number of parts; it divides ``batch_size``.

    Returns:
      A dataset whose element s is the ``HostBatch`` of step s, with
      ``batch_size / process_count * n_reps`` rows.

    Raises:
      ValueError: if the numbers do not fit each other. Reading an element raises one that names
        the record that cannot be decoded.
    """
    rows = grain.MapDataset.range(len(records)).seed(seed % 2**32).shuffle()
    # An element's draws follow from its position in the run, so they come before any division.
    plans = rows.random_map(lambda row, rng: Plan(row, rng.random((n_reps, DRAWS))))
    make = functools.partial(_make, records, cropper, n_reps)
    return _parts(plans, make, batch_size, process_index, process_count).repeat()


def evaluation_batches(
    records: Records,
    cropper: Cropper,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.MapDataset:
    """Every image once, in its own order; the rest of the last batch is filling.

    Args:
      records: the images.
      cropper: how to cut them.
      batch_size: images of a batch, of all processes together.
      process_index: which part of each batch to make.
      process_count: number of parts; it divides ``batch_size``.

    Returns:
      A dataset of ``HostBatch``es with ``batch_size / process_count`` rows.

    Raises:
      ValueError: if the numbers do not fit each other.
    """
    plans = grain.MapDataset.range(len(records)).map(Plan)
    make = functools.partial(_make, records, cropper, 1)
    return _parts(plans, make, batch_size, process_index, process_count)


def _parts(
    plans: grain.MapDataset,
    make: Callable[[Sequence[Plan]], HostBatch],
    batch_size: int,
    index: int,
    count: int,
) -> grain.MapDataset:
    """Batches of an epoch, the last one filled up, and of these the parts of one process."""
    if batch_size < 1 or count < 1 or batch_size % count or not 0 <= index < count:
        raise ValueError(
            f"batch_size {batch_size} for process {index} of {count}, expected a batch size that"
            " the number of processes divides"
        )
    if filling := -len(plans) % batch_size:
        fillers = grain.MapDataset.range(filling).map(lambda _: Plan(-1))
        plans = grain.MapDataset.concatenate([plans, fillers])
    return plans.batch(batch_size // count, batch_fn=make)[index::count]


def _make(records: Records, cropper: Cropper, n_reps: int, plans: Sequence[Plan]) -> HostBatch:
    # First all records are read: between one image and the next, reading takes twice as long, as
    # decoding has driven whatever it needs out of the core's caches.
    read = [records[plan.row] if plan.row >= 0 else None for plan in plans]
    parts = [_crops(cropper, n_reps, *pair) for pair in zip(read, plans, strict=True)]
    images, labels = zip(*parts, strict=True)
    return HostBatch(np.concatenate(images), np.concatenate(labels))


def _crops(cropper: Cropper, n_reps: int, record: Record | None, plan: Plan) -> HostBatch:
    if record is None:
        return cropper.filling(n_reps)
    return cropper.centre(record) if plan.draws is None else cropper.random(record, plan.draws)


def _size(image: object) -> tuple[int, int]:
    """Width and height of what a decoder gives."""
    if isinstance(image, np.ndarray):
        return image.shape[1], image.shape[0]
    return image.size  # type: ignore[attr-defined]
