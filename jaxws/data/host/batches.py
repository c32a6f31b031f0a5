"""Batches cut on the host from images that are decoded as they are needed.

A training set is a ``grain.MapDataset``: element s is what a process makes of step s's batch, as a
pure function of (seed, s). So order and crops do not depend on threads, workers, restarts or the
number of processes, and a run resumes from its step number: ``batches[step:]``.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import grain
import numpy as np

from jaxws.data.host.crops import DRAWS, RESIZE, centre_box, random_box, resized_shape
from jaxws.data.host.decoders import cut, decode_record
from jaxws.data.sources.records import Record, Records


class HostBatch(NamedTuple):
    """A batch on the host, or the rows of it that a process makes.

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
    rows: np.ndarray | None = None,
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
      rows: ascending numbers of those rows of a batch that are made, of all its
        ``batch_size * n_reps``. Only their images are read. None for all.

    Returns:
      A dataset whose element s is the ``HostBatch`` of step s, or these rows of it.

    Raises:
      ValueError: if the numbers do not fit each other. Reading an element raises one that names
        the record that cannot be decoded.
    """
    images = grain.MapDataset.range(len(records)).seed(seed % 2**32).shuffle()
    # An element's draws follow from its position in the run, so they come before any division.
    plans = images.random_map(lambda row, rng: Plan(row, rng.random((n_reps, DRAWS))))
    part = _Part(batch_size, n_reps, rows)
    plans = part.filled_up(plans).repeat()
    make = functools.partial(_make, records, cropper, plans, part)
    return grain.MapDataset.range(len(plans) // batch_size).map(make)


def evaluation_batches(
    records: Records, cropper: Cropper, *, batch_size: int, rows: np.ndarray | None = None
) -> grain.MapDataset:
    """Every image once, in its own order; the rest of the last batch is filling.

    Args:
      records: the images.
      cropper: how to cut them.
      batch_size: images of a batch, of all processes together.
      rows: ascending numbers of those rows of a batch that are made; None for all.

    Returns:
      A dataset of ``HostBatch``es, or these rows of them.

    Raises:
      ValueError: if the numbers do not fit each other.
    """
    part = _Part(batch_size, 1, rows)
    plans = part.filled_up(grain.MapDataset.range(len(records)).map(Plan))
    make = functools.partial(_make, records, cropper, plans, part)
    return grain.MapDataset.range(len(plans) // batch_size).map(make)


class _Part:
    """Which images, and which views of each, are in some rows of every batch."""

    def __init__(self, batch_size: int, n_reps: int, rows: np.ndarray | None):
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size!r}, expected a whole number, 1 or more")
        size = batch_size * n_reps
        rows = np.arange(size) if rows is None else np.asarray(rows)
        if (np.diff(rows, prepend=-1, append=size) < 1).any():
            raise ValueError(f"rows are {rows}, expected ascending numbers from 0 to {size - 1}")
        self._batch_size = batch_size
        positions, first = np.unique(rows // n_reps, return_index=True)
        self._positions = [int(position) for position in positions]
        self.views = np.split(rows % n_reps, first[1:])

    def filled_up(self, plans: grain.MapDataset) -> grain.MapDataset:
        """An epoch's plans, and so many that stand for no image that the last batch is whole."""
        if not (filling := -len(plans) % self._batch_size):
            return plans
        fillers = grain.MapDataset.range(filling).map(lambda _: Plan(-1))
        return grain.MapDataset.concatenate([plans, fillers])

    def of(self, step: int, plans: grain.MapDataset) -> list[Plan]:
        """Plans of the images, one for each of ``views``."""
        first = int(step) * self._batch_size
        return [plans[first + position] for position in self._positions]


def _make(
    records: Records, cropper: Cropper, plans: grain.MapDataset, part: _Part, step: int
) -> HostBatch:
    chosen = part.of(step, plans)
    # First all records are read: between one image and the next, reading takes twice as long, as
    # decoding has driven whatever it needs out of the core's caches.
    read = [records[plan.row] if plan.row >= 0 else None for plan in chosen]
    parts = [_crops(cropper, *each) for each in zip(read, chosen, part.views, strict=True)]
    images, labels = zip(*parts, strict=True)
    return HostBatch(np.concatenate(images), np.concatenate(labels))


def _crops(cropper: Cropper, record: Record | None, plan: Plan, views: np.ndarray) -> HostBatch:
    if record is None:
        return cropper.filling(len(views))
    if plan.draws is None:
        return cropper.centre(record)
    return cropper.random(record, plan.draws[views])


def _size(image: object) -> tuple[int, int]:
    """Width and height of what a decoder gives."""
    if isinstance(image, np.ndarray):
        return image.shape[1], image.shape[0]
    return image.size  # type: ignore[attr-defined]
