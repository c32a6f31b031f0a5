"""Checksums of a directory's files, so that damage is found before anything is read from them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from jaxws.atomic import write_atomically

NAME = "sha256.json"


def write_checksums(directory: Path) -> None:
    """Writes the SHA-256 of every file below a directory into ``sha256.json`` there.

    Args:
      directory: whose files will not change any more.
    """
    digests = json.dumps(_digests(directory), indent=1, sort_keys=True)
    write_atomically(directory / NAME, digests + "\n")


def has_checksums(directory: Path) -> bool:
    """Whether :func:`write_checksums` has been here.

    Args:
      directory: any directory.

    Returns:
      True if the checksums were written.
    """
    return (directory / NAME).exists()


def damaged_files(directory: Path) -> list[str]:
    """Compares a directory with its checksums.

    Args:
      directory: where :func:`write_checksums` has been.

    Returns:
      Names of the files that were changed or removed, relative to the directory.

    Example:
      >>> import tempfile
      >>> directory = Path(tempfile.mkdtemp())
      >>> _ = (directory / "weights").write_text("0.5")
      >>> write_checksums(directory)
      >>> damaged_files(directory)
      []
      >>> _ = (directory / "weights").write_text("0.6")
      >>> damaged_files(directory)
      ['weights']
    """
    try:
        written = json.loads((directory / NAME).read_text())
    except ValueError:
        return [NAME]
    found = _digests(directory)
    return sorted(name for name, digest in written.items() if found.get(name) != digest)


def _digests(directory: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.name.startswith(NAME):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            digests[path.relative_to(directory).as_posix()] = digest
    return digests
