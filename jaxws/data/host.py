"""Batches cut on the host from images that are decoded as they are needed.

A training set is a `grain.MapDataset`: element s is what a process contributes to step s, as a pure
function of (seed, s). So order and crops do not depend on threads, workers, restarts or the number
of processes, and a run resumes from its step number: `batches[step:]`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grain
import numpy as np
from absl import flags

from jaxws.data.decoders import cut, decode_record
from jaxws.data.records import Record, Records
from jaxws.data.views import DRAWS, RESIZE, centre_box, random_box, resized_shape
from jaxws.data.workers import available_cores, end_with_parent


class HostBatch(NamedTuple):
    """A batch on the host, or the part of it that belongs to a process.

    Attributes:
        image: uint8 `(n, size, size, c)`.
        label: int32 `(n,)`, -1 for the rows that fill up a ragged last batch.
    """

    image: np.ndarray
    label: np.ndarray


@dataclasses.dataclass(frozen=True)
class Cutter:
    """How records become square crops.

    Attributes:
        size: Side of the crops in pixels.
        channels: 3 for RGB or 1 for grayscale.
        decoder: One of `jaxws.data.decoders.DECODERS`.
    """

    size: int
    channels: int
    decoder: str

    def random(self, record: Record, rng: np.random.Generator, n_reps: int) -> HostBatch:
        """Decode once, then cut `n_reps` independent random-resized-crops.

        The first crops of a larger number are those of a smaller one.
        """
        image = decode_record(record, self.channels, self.decoder)
        draws = rng.random((n_reps, DRAWS))
        boxes = [random_box(uniform, *_size(image)) for uniform in draws]
        return self._batch([cut(image, box, (self.size, self.size)) for box in boxes], record.label)

    def centre(self, record: Record) -> HostBatch:
        """Resize the shorter side to 8/7 of the crop's, 256 for 224, and cut out the centre."""
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


def training_batches(
    records: Records,
    cutter: Cutter,
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
        records: The training images.
        cutter: How to cut them.
        seed: Of order and crops.
        batch_size: Images of a step, of all processes together.
        n_reps: Crops of each image.
        process_index: Which part of each batch to make: row by row, the batch is the parts of
            process 0, 1, ... put together.
        process_count: Number of parts; it divides `batch_size`.

    Returns:
        A dataset whose element s is the `HostBatch` of step s, with
        `batch_size / process_count * n_reps` rows.

    Raises:
        ValueError: If the numbers do not fit each other. Reading an element raises one that names
            the record that cannot be decoded.
    """
    images = grain.MapDataset.source(records).seed(seed % 2**32).shuffle()
    # An element's draws follow from its position in the run, so they come before any division.
    crops = images.random_map(lambda record, rng: cutter.random(record, rng, n_reps))
    parts = _parts(crops, cutter.filling(n_reps), batch_size, process_index, process_count)
    return parts.repeat()


def evaluation_batches(
    records: Records,
    cutter: Cutter,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.MapDataset:
    """Every image once, in its own order; the rest of the last batch is filling.

    Args:
        records: The images.
        cutter: How to cut them.
        batch_size: Images of a batch, of all processes together.
        process_index: Which part of each batch to make.
        process_count: Number of parts; it divides `batch_size`.

    Returns:
        A dataset of `HostBatch`es with `batch_size / process_count` rows.

    Raises:
        ValueError: If the numbers do not fit each other.
    """
    crops = grain.MapDataset.source(records).map(cutter.centre)
    return _parts(crops, cutter.filling(1), batch_size, process_index, process_count)


def iterate(
    batches: grain.MapDataset, *, threads: int | None = None, workers: int = 0
) -> Iterator[HostBatch]:
    """Make batches ahead of time, in threads of this process or in processes of their own.

    Args:
        batches: From `training_batches[step:]` or `evaluation_batches`.
        threads: Each makes a batch of its own; None for one per core that this process may use,
            or one per worker.
        workers: Processes, which start the program's main module anew; 0 for threads alone.

    Yields:
        The batches in order. Whoever stops early closes the iterator, which ends the workers.

    Raises:
        ValueError: If a record cannot be decoded, or a worker has been killed.
    """
    threads = threads or (1 if workers else available_cores())
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    ahead = batches.to_iter_dataset(options)
    if workers:
        if not flags.FLAGS.is_parsed():  # Grain reads some of its own; a library has no flags
            flags.FLAGS(sys.argv[:1])
        ahead = ahead.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1),
            worker_init_fn=end_with_parent,
        )
    iterator = iter(ahead)
    try:
        for batch in iterator:
            # Workers' batches lie in shared memory, which goes back at once.
            yield HostBatch(*map(np.array, batch)) if workers else batch
    except RuntimeError as error:
        raise ValueError(
            f"the input pipeline broke off ({error}): if memory or /dev/shm ran out, set a smaller"
            " --config.data.workers, 0 for threads alone, or --config.data.threads"
        ) from error
    finally:
        iterator.close()


def _parts(
    crops: grain.MapDataset, filler: HostBatch, batch_size: int, index: int, count: int
) -> grain.MapDataset:
    """Batches of an epoch, the last one filled up, and of these the parts of one process."""
    if batch_size < 1 or count < 1 or batch_size % count or not 0 <= index < count:
        raise ValueError(
            f"batch_size {batch_size} for process {index} of {count}, expected a batch size that"
            " the number of processes divides"
        )
    if filling := -len(crops) % batch_size:
        fillers = grain.MapDataset.range(filling).map(lambda _: filler)
        crops = grain.MapDataset.concatenate([crops, fillers])
    return crops.batch(batch_size // count, batch_fn=_join)[index::count]


def _join(parts: Sequence[HostBatch]) -> HostBatch:
    images, labels = zip(*parts, strict=True)
    return HostBatch(np.concatenate(images), np.concatenate(labels))


def _size(image: object) -> tuple[int, int]:
    """Width and height of what a decoder gives."""
    if isinstance(image, np.ndarray):
        return image.shape[1], image.shape[0]
    return image.size  # type: ignore[attr-defined]
