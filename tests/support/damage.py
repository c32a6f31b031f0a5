"""What can happen to files, and to the official data sets while they are prepared."""

import os
import resource
from contextlib import contextmanager


def flip_bit(path, at=None):
    """Change a byte, by default in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 1
    path.write_bytes(content)


def truncate(path):
    """Lose the second half."""
    os.truncate(path, path.stat().st_size // 2)


def remove(path):
    path.unlink()


def largest_file(directory):
    files = (path for path in directory.rglob("*") if path.is_file())
    return max(files, key=lambda path: path.stat().st_size)


def snapshot(directory):
    """All files below a directory but the lock."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.name != "lock")
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


@contextmanager
def small_files_only():
    """No file may be longer than 16 KiB: as a full disk, for this process alone."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16384, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
