"""Paths that a user gives: of local files. The one place that says so."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

# Of gs://bucket, and of what pathlib makes of it, gs:/bucket.
_SCHEME = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*:/")


def local_path(given: str | os.PathLike[str], what: str = "") -> Path:
    """Reads a path, which must be a local one.

    Args:
      given: the path; ``~`` stands for a home directory.
      what: names it in errors, such as ``--workdir``; empty where that is said already.

    Returns:
      The path, with ``~`` expanded.

    Raises:
      ValueError: it is of another place, such as ``gs://bucket``, is empty or holds a NUL, or there
        is no such home directory.

    Example:
      >>> local_path("gs://bucket/run", "--workdir")  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      ValueError: --workdir=gs://bucket/run: expected a local path; other places, such as gs://, ...
      >>> local_path("runs/seed=[1]", "--workdir").as_posix()
      'runs/seed=[1]'
    """
    text = os.fspath(given)
    named = f"{what}={text}" if what else text or "''"
    if _SCHEME.match(text):
        raise ValueError(
            f"{named}: expected a local path; other places, such as gs://, are not supported yet."
        )
    if not text or "\0" in text:
        raise ValueError(f"{named}: expected the path of a file or directory.")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{named}: there is no such home directory; write the path in full."
        ) from error


def path_argument(given: str) -> Path:
    """The ``type`` of arguments of a command line that are paths.

    Args:
      given: the argument.

    Returns:
      See :func:`local_path`.

    Raises:
      argparse.ArgumentTypeError: what is wrong with it.

    Example:
      >>> path_argument("runs/a").as_posix()
      'runs/a'
    """
    try:
        return local_path(given)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def path_text(given: str) -> str:
    """As :func:`path_argument`, for what goes into a configuration: the path as it was given.

    Args:
      given: the argument.

    Returns:
      The same.

    Raises:
      argparse.ArgumentTypeError: what is wrong with it.

    Example:
      >>> path_text("runs/a")
      'runs/a'
    """
    path_argument(given)
    return given
