"""Locks on files, which the system lets go of when a process ends, however it ends."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import BinaryIO

from jaxws.system.atomic import open_in_place


def lock(path: Path) -> BinaryIO:
    """Locks a file against all others that lock it, in this process too.

    Args:
      path: the file; made if missing, left as it is otherwise.

    Returns:
      The file, open for reading and writing at its beginning; the lock is held until it is closed.

    Raises:
      BlockingIOError: another one holds the lock.
      OSError: the file cannot be written or is a link, or the file system has no locks.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "lock"
      >>> held = lock(path)
      >>> lock(path)  # doctest: +IGNORE_EXCEPTION_DETAIL
      Traceback (most recent call last):
      BlockingIOError: Resource temporarily unavailable
      >>> held.close()
      >>> lock(path).close()
    """
    file = open_in_place(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        file.close()
        raise
    return file
