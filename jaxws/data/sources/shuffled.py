"""Writing the records of a data set in TFDS's order, without TensorFlow and without scratch files.

TFDS's generator-based builders sort records by a hash of their key, and beyond 1 GB they need
TensorFlow and a second copy on disk to do so. Here the keys are known before any image is read, so
they are sorted first and the images are then fetched in the order in which they are written.
"""

import collections
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any, NamedTuple

from tensorflow_datasets.core import hashing
from tensorflow_datasets.core.utils import shard_utils

from jaxws.data.sources.prepare import ArrayRecordBuilder
from jaxws.system.terminal import track

_TASK = 32  # records handed to a thread at once
_AHEAD = 16  # tasks in flight: hides the latency of a network disk


class Records(NamedTuple):
    """The records of a split before they are read.

    Attributes:
      keys: a unique key for each, by which TFDS hashes it.
      size: about how many bytes all of them take, for the number of files.
      example: from the position of a record to its features; called from several threads.
    """

    keys: Sequence[str | int]
    size: int
    example: Callable[[int], dict[str, Any]]


class ShuffledBuilder(ArrayRecordBuilder):
    """Mixin for a ``tfds.core.DatasetBuilder`` whose records are known before they are read.

    It stands before TFDS's class among the bases. ``_records`` takes the place of
    ``_split_generators``.
    """

    def _records(self) -> dict[str, Records]:
        """The records of each split; raises a ValueError for a damaged archive."""
        raise NotImplementedError

    def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, Sequence[Any]]:
        splits = self._records()
        for split, records in splits.items():
            if not records.keys:
                raise ValueError(
                    f"split {split!r} of {self.name!r} would have no images: the archive is not "  # type: ignore[attr-defined]
                    "the official one"
                )
        return {split: _shards(split, records) for split, records in splits.items()}


def hashed_order(keys: Sequence[str | int], split: str) -> list[int]:
    """The order in which TFDS writes records.

    Args:
      keys: a unique key for each record.
      split: the name of the split, which salts the hash.

    Returns:
      Positions in ``keys``, one for each record, in the order of writing.

    Raises:
      ValueError: if a key appears twice.

    Example:
      >>> hashed_order(["a", "b", "c", "d"], "train")
      [1, 2, 0, 3]
    """
    hasher = hashing.Hasher(split)
    hashes = [hasher.hash_key(key) for key in keys]
    order = sorted(range(len(keys)), key=hashes.__getitem__)
    for one, other in itertools.pairwise(order):
        if hashes[one] == hashes[other]:
            raise ValueError(f"{keys[one]} appears twice in split {split!r}: damaged archive?")
    return order


def _shards(split: str, records: Records) -> list[Any]:
    order = hashed_order(records.keys, split)
    config = shard_utils.ShardConfig()
    count = config.get_number_shards(records.size, len(order))
    ends = shard_utils.get_shard_boundaries(len(order), count)
    spans = itertools.pairwise([0, *ends])
    # One bar for the whole split: the shards are written one after the other.
    ticks = track(range(len(order)), f"Writing {split}", len(order))
    return [functools.partial(_shard, records, order[start:end], ticks) for start, end in spans]


def _shard(
    records: Records, positions: Sequence[int], ticks: Iterator[int]
) -> Iterator[tuple[str | int, dict[str, Any]]]:
    def read(task: Sequence[int]) -> list[dict[str, Any]]:
        return [records.example(position) for position in task]

    tasks = [positions[start : start + _TASK] for start in range(0, len(positions), _TASK)]
    waiting: collections.deque[Any] = collections.deque()
    with futures.ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        try:
            for task in [*tasks, *[None] * _AHEAD]:
                waiting.append((task, pool.submit(read, task)) if task else None)
                if len(waiting) > _AHEAD and (ready := waiting.popleft()):
                    for position, example in zip(ready[0], ready[1].result(), strict=True):
                        next(ticks, None)
                        yield records.keys[position], example
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
