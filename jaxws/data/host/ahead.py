"""Making batches ahead of time, in threads or in processes that may be killed."""

from __future__ import annotations

import multiprocessing
import re
import sys
from collections.abc import Iterator
from multiprocessing.process import BaseProcess

import grain
import numpy as np
from absl import flags, logging

from jaxws.data.host.batches import HostBatch
from jaxws.data.host.workers import available_cores, end_with_parent

# So often are workers started anew that were killed: more of it is no accident.
_MOST_RESTARTS = 3
# Grain's words; a program that ends of itself has a status of 0 or more.
_KILLED = re.compile(r"exit code -\d+")


class MadeAhead(Iterator[HostBatch]):
    """Batches in order; whoever stops early closes it, which ends the workers.

    A batch is a function of its number alone. So where a worker has been killed, all of them are
    started anew, and go on with the batch that is missing.

    Example:
      >>> import numpy as np
      >>> batches = grain.MapDataset.range(3).map(lambda i: HostBatch(np.zeros(1), np.full(1, i)))
      >>> [int(batch.label[0]) for batch in MadeAhead(batches, threads=1)]
      [0, 1, 2]
    """

    def __init__(self, batches: grain.MapDataset, *, threads: int | None = None, workers: int = 0):
        """Notes what to make; the first call of ``next`` starts it.

        Args:
          batches: from ``training_batches[step:]`` or ``evaluation_batches``.
          threads: each makes a batch of its own; None for one per core that this process may use,
            or one per worker.
          workers: processes, which start the program's main module anew; 0 for threads alone.
        """
        self._batches, self._workers = batches, workers
        self._threads = threads or (1 if workers else available_cores())
        self._made = self._made_since_start = self._restarts = 0
        self._closed = False
        self._start()

    def __next__(self) -> HostBatch:
        """Waits for the next batch.

        Returns:
          The batch.

        Raises:
          StopIteration: after the last one.
          ValueError: if a record cannot be decoded, or workers are killed again and again.
        """
        while True:
            try:
                batch = next(self._iterator)
            except RuntimeError as error:
                self._start_anew(error)
                continue
            self._made += 1
            self._made_since_start += 1
            # Workers' batches lie in shared memory, which goes back at once.
            return HostBatch(*map(np.array, batch)) if self._workers else batch

    def interrupt(self) -> None:
        """Ends a wait for workers that are still starting, which takes them many seconds.

        It may be called by another thread than the one that waits, which then gets an error, or
        the batch that a worker has just made.
        """
        self._closed = True
        if self._made_since_start < self._workers:  # They take turns: not all have made one.
            for worker in self._own_workers():
                worker.terminate()

    def close(self) -> None:
        """Ends the workers."""
        self.interrupt()
        self._iterator.close()

    def _start(self) -> None:
        options = grain.ReadOptions(num_threads=self._threads, prefetch_buffer_size=self._threads)
        ahead = self._batches[self._made :].to_iter_dataset(options)
        if self._workers:
            if not flags.FLAGS.is_parsed():  # Grain reads some of its own; a library has no flags
                flags.FLAGS(sys.argv[:1])
            ahead = ahead.mp_prefetch(
                grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=1),
                worker_init_fn=end_with_parent,
            )
        self._others = multiprocessing.active_children()
        self._iterator = iter(ahead)
        self._made_since_start = 0

    def _start_anew(self, error: RuntimeError) -> None:
        killed = _KILLED.search(str(error)) is not None
        if self._closed or not killed or self._restarts == _MOST_RESTARTS:
            raise ValueError(
                f"the input pipeline broke off ({error}): if memory or /dev/shm ran out, set a"
                " smaller --config.data.workers, 0 for threads alone, or --config.data.threads"
            ) from error
        self._restarts += 1
        logging.warning(
            "A worker of the input pipeline was killed, for want of memory perhaps: starting all "
            "of them anew (%s)",
            str(error).partition(". ")[0],
        )
        self._iterator.close()
        self._start()

    def _own_workers(self) -> list[BaseProcess]:
        """Grain does not tell; what it started since then has its name."""
        children = [each for each in multiprocessing.active_children() if each not in self._others]
        return [each for each in children if each.name.startswith("grain")]
