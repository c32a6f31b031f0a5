"""Which files of a run's directory are mirrored in a bucket."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from jaxws.system.atomic import is_temporary

# Locks, and what is being written or fetched.
_LEFT_OUT = re.compile(r"(^|/)lock$|\.orbax-checkpoint-tmp|^checkpoints/[^/]*\.fetched/")

Signature = tuple[int, int, int]  # what changes when a file does


def mirrored_files(directory: Path) -> Iterator[tuple[str, Signature]]:
    """Lists the files of a run that are mirrored.

    Args:
      directory: of the run.

    Yields:
      Names in the directory, with signatures.

    Example:
      >>> import tempfile
      >>> directory = Path(tempfile.mkdtemp())
      >>> for name in ("config.json", "lock"):
      ...     (directory / name).touch()
      >>> [name for name, _ in mirrored_files(directory)]
      ['config.json']
    """
    for name, path in files_in(directory):
        if not _LEFT_OUT.search(name) and not is_temporary(path.name):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                yield name, signature_of(path)


def files_in(directory: Path) -> Iterator[tuple[str, Path]]:
    """Lists plain files at any depth; no links, which may lead anywhere.

    Args:
      directory: where.

    Yields:
      Names in the directory, and paths.
    """
    for root, _, names in os.walk(directory):
        for name in sorted(names):
            path = Path(root) / name
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(directory).as_posix(), path


def signature_of(path: Path) -> Signature:
    """Size, time of the last change and inode of a file.

    Args:
      path: of the file.

    Raises:
      FileNotFoundError: it is gone.
    """
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino
