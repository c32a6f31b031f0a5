"""Telling what a killed preparation left behind from what another process is writing right now.

TFDS prepares a data set in a directory ``incomplete.XXXXXX_VERSION`` and removes it after an error,
but cannot after SIGKILL or a power cut. So each preparation holds a lock on a file beside its
directory, which the system lets go of however the process ends. Where nobody holds it, both can be
removed. Directories without such a file were not made here, and are left alone.
"""

import contextlib
import pathlib
import shutil
from collections.abc import Iterator

from absl import logging

from jaxws.system.locks import lock

_SUFFIX = ".lock"


@contextlib.contextmanager
def claim(directory: pathlib.Path) -> Iterator[None]:
    """Holds the lock of a directory that is being prepared.

    Args:
      directory: it need not exist.

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
    file = directory.with_name(directory.name + _SUFFIX)
    # Locked before it has the name that others look for: they never see it free.
    early = directory.with_name(directory.name + ".starting")
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(lock(early))
            early.rename(file)
        except OSError:  # A file system without locks: nothing is ever taken for abandoned.
            early.unlink(missing_ok=True)
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def remove_abandoned(parent: pathlib.Path) -> None:
    """Removes what preparations that were killed have left in a directory.

    Args:
      parent: where the versions of a data set lie; it need not exist.
    """
    for file in parent.glob("incomplete.*" + _SUFFIX):
        with contextlib.suppress(OSError), lock(file):  # BlockingIOError if it is held
            directory = file.with_name(file.name.removesuffix(_SUFFIX))
            if directory.exists():
                logging.warning("Removing %s, left by a preparation that was killed", directory)
                shutil.rmtree(directory)
            file.unlink()
