"""Writing files so that they are never seen half-written, and never through somebody else's link.

A file is written beside its place, under a name that nobody can guess and that must not exist, and
renamed once it is whole and on the disk. A link in its place is replaced, not followed.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_PREFIX, _SUFFIX = ".jaxws-", ".tmp"
# A file is written in less time: a process that has not gone on with one for so long was killed.
_ABANDONED_SECONDS = 3600
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)  # of file systems that do not wait for a disk
_LONGEST = 40  # characters of a name that are kept in a temporary one: it must not be too long


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place to write a file at, which then takes the place of another at once.

    Args:
      path: of the file.

    Yields:
      Another path beside it, of an empty file with the permissions of any new one; it is removed
      if writing fails. What a killed process has left of the same file goes too, an hour later.

    Raises:
      OSError: the file cannot be written, or ``path`` is a directory.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "weights"
      >>> with replacing(path) as temporary:
      ...     _ = temporary.write_bytes(b"0.5")
      >>> path.read_bytes()
      b'0.5'
    """
    if path.is_dir() and not path.is_symlink():
        raise IsADirectoryError(errno.EISDIR, f"{path.name} is a directory", str(path))
    start = f"{_PREFIX}{path.name[:_LONGEST]}-"
    _remove_abandoned(path.parent, start)
    temporary = path.with_name(start + secrets.token_hex(8) + _SUFFIX)
    # With the mode of any new file, less the umask.
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
    try:
        yield temporary
        _to_disk(temporary)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    with suppress(OSError):  # the file is whole; a crash may bring the old one back, no more
        _to_disk(path.parent)


def is_temporary(name: str) -> bool:
    """Whether a name is one under which :func:`replacing` writes.

    Args:
      name: of a file, without its directory.

    Example:
      >>> import tempfile
      >>> with replacing(Path(tempfile.mkdtemp()) / "config.json") as temporary:
      ...     is_temporary(temporary.name), is_temporary("config.json")
      (True, False)
    """
    return name.startswith(_PREFIX) and name.endswith(_SUFFIX)


def open_in_place(path: Path) -> BinaryIO:
    """Opens a file that is added to or locked where it is: a plain one, never through a link.

    Args:
      path: of the file; made if missing.

    Returns:
      The file, unbuffered, for reading and writing at its beginning.

    Raises:
      OSError: it cannot be written, or is a link, a pipe or a device.

    Example:
      >>> open_in_place(Path("/dev/null"))
      Traceback (most recent call last):
      OSError: [Errno 22] null is no plain file: remove it: '/dev/null'
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if path.is_symlink():
            message = f"{path.name} is a link, which is not followed: remove it"
            raise OSError(errno.ELOOP, message, str(path)) from error
        raise
    try:
        _check_plain(descriptor, path)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "r+b", buffering=0)


def read_plain(path: Path) -> bytes:
    """Reads a file if it is a plain one; a pipe would never end.

    Args:
      path: of the file.

    Returns:
      Its content.

    Raises:
      OSError: it cannot be read, or is a pipe, a device or a directory.

    Example:
      >>> read_plain(Path("/dev/zero"))
      Traceback (most recent call last):
      OSError: [Errno 22] zero is no plain file: remove it: '/dev/zero'
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        _check_plain(descriptor, path)
        return file.read()


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
      path: of the file.
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
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _check_plain(descriptor: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, f"{path.name} is no plain file: remove it", str(path))


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    finally:
        os.close(descriptor)


def _remove_abandoned(directory: Path, start: str) -> None:
    """Removes what processes that were killed have left of a file."""
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(start) and is_temporary(entry.name):
                with suppress(OSError):  # of somebody else, or removed by another process
                    status = entry.stat(follow_symlinks=False)
                    if time.time() - status.st_mtime > _ABANDONED_SECONDS:
                        os.unlink(entry.path)
