"""Telling what a killed preparation left behind from what another process is writing right now.

TFDS prepares a data set in a directory `incomplete.XXXXXX_VERSION` and removes it after an error,
but cannot after SIGKILL or a power cut. So each preparation holds a lock on a file beside its
directory, which the system lets go of however the process ends. Where nobody holds it, both can be
removed. Directories without such a file were not made here, and are left alone.
"""

import contextlib
import fcntl
import pathlib
import shutil
from collections.abc import Iterator

from absl import logging

_SUFFIX = ".lock"


@contextlib.contextmanager
def claim(directory: pathlib.Path) -> Iterator[None]:
    """Hold the lock of a directory that is being prepared.

    Args:
        directory: It need not exist.

    Example:
        >>> import tempfile
        >>> parent = pathlib.Path(tempfile.mkdtemp())
        >>> with claim(parent / "incomplete.ABCDEF_1.0.0"):
        ...     remove_abandoned(parent)
        ...     [path.name for path in parent.iterdir()]
        ['incomplete.ABCDEF_1.0.0.lock']
        >>> list(parent.iterdir())
        []
    """
    lock = directory.with_name(directory.name + _SUFFIX)
    # Locked before it has the name that others look for: they never see it free.
    early = directory.with_name(directory.name + ".starting")
    with early.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            early.rename(lock)
        except OSError:  # A file system without locks: nothing is ever taken for abandoned.
            early.unlink(missing_ok=True)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def remove_abandoned(parent: pathlib.Path) -> None:
    """Remove what preparations that were killed have left in a directory.

    Args:
        parent: Where the versions of a data set lie; it need not exist.
    """
    for lock in parent.glob("incomplete.*" + _SUFFIX):
        with contextlib.suppress(OSError), lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError if it is held
            directory = lock.with_name(lock.name.removesuffix(_SUFFIX))
            if directory.exists():
                logging.warning("Removing %s, left by a preparation that was killed", directory)
                shutil.rmtree(directory)
            lock.unlink()
