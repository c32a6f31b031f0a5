"""Checksums of a directory's files, so that damage is found before anything is read from them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from jaxws.system.atomic import write_atomically
from jaxws.system.json_text import parse_json

NAME = "sha256.json"


def write_checksums(directory: Path) -> None:
    """Writes the SHA-256 of the files below a directory into ``sha256.json`` there.

    Args:
      directory: whose files will not change any more.
    """
    digests = {name: _digest(path) for name, path in _files(directory)}
    write_atomically(directory / NAME, json.dumps(digests, indent=1, sort_keys=True) + "\n")


def damaged_files(directory: Path) -> list[str]:
    """Compares a directory with its checksums.

    Args:
      directory: where :func:`write_checksums` has been.

    Returns:
      Names of the files that were changed or removed, relative to the directory; ``sha256.json`` if
      that is not there or is no longer what was written.

    Raises:
      OSError: a file is there but cannot be read, which says nothing about what it holds: no
        permission, a disk or a server that does not answer.

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
        written = parse_json((directory / NAME).read_bytes())
    except (FileNotFoundError, IsADirectoryError, ValueError):
        return [NAME]
    if not isinstance(written, dict) or not written or not all(map(_is_name, written)):
        return [NAME]
    return sorted(name for name, digest in written.items() if _digest(directory / name) != digest)


def _is_name(name: str) -> bool:
    """Whether this may be the name of a file beneath a directory."""
    path = Path(name)
    return "\0" not in name and not path.is_absolute() and ".." not in path.parts


def _files(directory: Path) -> list[tuple[str, Path]]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return [
        (path.relative_to(directory).as_posix(), path)
        for path in files
        if not path.name.startswith(NAME)
    ]


def _digest(path: Path) -> str | None:
    """The SHA-256 of a file; None if there is none of this name."""
    try:
        if not path.is_file():  # a pipe or device, which may never end
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, IsADirectoryError):
        return None
