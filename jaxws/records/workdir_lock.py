"""The lock on a run's directory, which says who holds it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from jaxws.system.locks import lock


def take_lock(path: Path, place: str, where: str = "") -> BinaryIO:
    """Locks a directory for this process, and notes its number for others.

    Args:
      path: the file to lock.
      place: what people know the directory by.
      where: of which machine a holder is, if there could be a doubt; begins with a blank.

    Returns:
      The file; the lock is held until it is closed.

    Raises:
      ValueError: another process holds it.
      OSError: the file cannot be written or is a link, or the file system has no locks.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "lock"
      >>> with take_lock(path, "runs/a"):
      ...     path.read_text() == str(os.getpid())
      True
    """
    try:
        held = lock(path)
    except BlockingIOError as error:
        holder = path.read_text(errors="replace").strip() or "?"
        raise ValueError(
            f"workdir {place} is in use by process {holder}{where}: wait for it, stop it, or give"
            " another directory by --workdir."
        ) from error
    held.truncate()
    held.write(str(os.getpid()).encode())
    os.fsync(held.fileno())  # other processes of the run look for it, maybe on other machines
    return held
