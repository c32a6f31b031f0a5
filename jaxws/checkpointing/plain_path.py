"""Directories of any name, under a name in which Orbax and TensorStore read nothing else.

They take some characters of a path for a pattern, a protocol or an escape (``runs/seed=[1]``,
``gs:``, a backslash), find or write other files than those meant, and cannot name bytes that are no
UTF-8.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PLAIN = re.compile(r"[A-Za-z0-9/._=+,@-]{1,1024}")
_OPEN_FILES = Path("/proc/self/fd")


@contextmanager
def plain_path(directory: Path) -> Iterator[Path]:
    """Another path of a directory, where its own is not plain.

    Args:
      directory: an absolute path of a directory that is there.

    Yields:
      The directory, or a path by which this process finds it, whatever it is called, as long as
      this is open.

    Raises:
      ValueError: its path is not plain, and the system knows no other.
      OSError: it cannot be opened.

    Example:
      >>> with plain_path(Path("/")) as path:
      ...     path.as_posix()
      '/'
    """
    if _PLAIN.fullmatch(str(directory)) and ".." not in directory.parts:
        yield directory
        return
    if not _OPEN_FILES.is_dir():  # macOS has none for directories
        raise ValueError(
            f"{directory}: checkpoints cannot be written to a path with such characters on this"
            " system. Give a --workdir of letters, digits, . _ = + , @ and -, of 1024 at most."
        )
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield _OPEN_FILES / str(opened)
    finally:
        os.close(opened)
