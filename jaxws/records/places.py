"""Where a run's directory is: on a file system, or in a bucket and mirrored from this machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from jaxws.parallel import processes
from jaxws.records.bucket_exchange import BucketExchange
from jaxws.records.staging import Staging, staging_place
from jaxws.system.bucket import BucketDirectory
from jaxws.system.local_path import is_bucket, local_path


class FollowedStaging:
    """A run in a bucket for a process that is not its first: a directory for checkpoints alone.

    Attributes:
      url: of the run.
      path: a directory of this process.
      exchange: how checkpoints get from process to process.
    """

    def __init__(self, url: str):
        """Makes the directory.

        Args:
          url: of the run.

        Raises:
          ValueError: the address is none.
          OSError: the directory cannot be made.
        """
        bucket = BucketDirectory(url)
        self.url, place = bucket.url, staging_place(bucket.url)
        # Processes of one machine have one each.
        self.path = place.with_name(f"{place.name}.{processes.index()}")
        self.path.mkdir(parents=True, exist_ok=True)
        self.exchange = BucketExchange(bucket, lambda: None)

    def close(self) -> None:
        """There is nothing to be sent."""


Place = Staging | FollowedStaging


@contextlib.contextmanager
def opened_place(workdir: str | os.PathLike[str]) -> Iterator[tuple[Path, Place | None]]:
    """The local directory of a run, wherever the run is; given back if what follows raises.

    Args:
      workdir: a local path, or one in a bucket.

    Yields:
      The directory, and what mirrors it in a bucket.

    Raises:
      ValueError: it is neither, or a process has the run.
      OSError: the bucket cannot be read or written.

    Example:
      >>> with opened_place("runs/a") as (path, staging):
      ...     path.as_posix(), staging
      ('runs/a', None)
    """
    if not is_bucket(workdir):
        yield local_path(workdir, "--workdir"), None
        return
    staging = (Staging if processes.is_first() else FollowedStaging)(os.fspath(workdir))
    try:
        yield staging.path, staging
    except BaseException:
        staging.close()
        raise
