"""Output that a program can do without: of a run that takes days, its log on a full disk."""

from __future__ import annotations

import io
import sys
from typing import Any, TextIO


class _Lossy(io.FileIO):
    """A file for whose bytes there may be no room or no reader: then they are lost."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError:  # ENOSPC, EDQUOT, EIO; EPIPE where the reader has gone
            return memoryview(data).nbytes


def lossy(stream: TextIO) -> TextIO:
    """Makes a stream for what may be lost, in the place of another.

    Args:
      stream: of a file that is open, such as ``sys.stdout``.

    Returns:
      A stream that writes to the same file and never fails for want of room or of a reader. What
      could not be written is left out; what comes once there is room is written again.

    Example:
      >>> with open("/dev/full", "w") as file:
      ...     print("no room for this", file=lossy(file), flush=True)
    """
    stream.flush()
    raw = _Lossy(stream.fileno(), "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=True,
    )


def lose_output_rather_than_fail() -> None:
    """Makes ``sys.stdout`` and ``sys.stderr`` of this process lossy, where they are open."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None:  # it is, where the shell has closed it
            setattr(sys, name, lossy(stream))
