"""Writing files so that they are never seen half-written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place to write a file at, which then takes the place of another at once.

    Args:
      path: of the file.

    Yields:
      Another path beside it, ``.tmp`` added to its name; it is removed if writing fails.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "weights"
      >>> with replacing(path) as temporary:
      ...     _ = temporary.write_bytes(b"0.5")
      >>> path.read_bytes()
      b'0.5'
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Writes several files, each of them whole; if one cannot be written, all stay as before.

    Args:
      contents: of each file.

    Raises:
      OSError: one could not be written.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp())
      >>> write_together({path / "a": b"1", path / "b": b"2"})
      >>> (path / "b").read_bytes()
      b'2'
    """
    with ExitStack() as stack:
        for path, content in contents.items():
            stack.enter_context(replacing(path)).write_bytes(content)


def write_atomically(path: Path, text: str) -> None:
    """Writes a file under another name and renames it once it is whole and on the disk.

    Args:
      path: of the file; ``.tmp`` is added to its name while it is written.
      text: its content.

    Raises:
      OSError: the file could not be written, as on a full disk; what was there is unchanged.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "config.json"
      >>> write_atomically(path, "{}")
      >>> path.read_text()
      '{}'
    """
    with replacing(path) as temporary, temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
