"""Checkpoints of processes that share no file system: their files go through the run's bucket.

Each process writes its arrays on its own machine. Those of others than process 0 pass through
objects in ``parts/`` to its disk, where a checkpoint becomes whole as any other, and from where it
is mirrored. To read one, the others fetch it from the mirror.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

from jaxws.parallel import processes
from jaxws.records.mirror import PARTS, Mirror
from jaxws.system.bucket import BucketDirectory


class BucketExchange:
    """See :class:`jaxws.checkpointing.exchange.Exchange`."""

    def __init__(self, directory: BucketDirectory, send: Callable[[], None]):
        """Asks for nothing.

        Args:
          directory: of the run, in the bucket.
          send: sends what process 0 has.
        """
        self._bucket, self._send = directory, send

    def check(self, checkpoints: Path) -> None:
        """Makes the directory of this process."""
        checkpoints.mkdir(parents=True, exist_ok=True)

    def begin(self, directory: Path) -> None:
        """Makes the directory here, and removes what others there have been for."""
        if processes.is_first():
            return
        self._remove_others(directory)
        # What Orbax waits for is below; see jaxws.checkpointing.unfinished.
        (directory / "state" / "array_metadatas").mkdir(parents=True)

    def give(self, directory: Path) -> None:
        """Sends what this process has written."""
        if not processes.is_first():
            files = (path for path in directory.rglob("*") if path.is_file())
            start = f"{PARTS}{directory.name}/"
            self._bucket.upload({f"{start}{p.relative_to(directory).as_posix()}": p for p in files})

    def collect(self, directory: Path) -> None:
        """Fetches what the other processes have sent."""
        if processes.count() == 1:
            return
        start = f"{PARTS}{directory.name}/"
        names = [name for name in self._bucket.names() if name.startswith(start)]
        files = {name: directory / name.removeprefix(start) for name in names}
        # What each process writes of what is common to all is the same.
        self._bucket.download({n: path for n, path in files.items() if not path.exists()})
        with contextlib.suppress(OSError):  # the next start removes them
            self._bucket.remove_all(names)

    def offer(self, checkpoint: Path) -> None:
        """Sees to it that the checkpoint is in the bucket."""
        if processes.count() > 1:
            self._send()

    def take(self, checkpoint: Path) -> None:
        """Fetches the checkpoint."""
        if not processes.is_first():
            self._remove_others(checkpoint)
            Mirror(checkpoint.parents[1], self._bucket).fetch_checkpoint(int(checkpoint.name))

    def _remove_others(self, directory: Path) -> None:
        """In this process, one checkpoint is enough: it reads those of process 0."""
        for other in directory.parent.iterdir():
            if other.is_dir() and other != directory:
                shutil.rmtree(other, ignore_errors=True)
