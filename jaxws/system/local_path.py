"""Paths that a user gives: of local files, and for a run's directory also of a bucket, gs://.

The one place that says which.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

# Of gs://bucket, and of what pathlib makes of it, gs:/bucket.
_SCHEME = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*:/")
_URL = re.compile(r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])/(?P<name>[^\0\r\n]+)")


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
      >>> local_path("gs://bucket/run", "--out")  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      ValueError: --out=gs://bucket/run: expected a local path; ...
      >>> local_path("runs/seed=[1]", "--out").as_posix()
      'runs/seed=[1]'
    """
    text = os.fspath(given)
    named = f"{what}={text}" if what else text or "''"
    if _SCHEME.match(text):
        raise ValueError(f"{named}: expected a local path; {_elsewhere(text)}")
    if not text or "\0" in text:
        raise ValueError(f"{named}: expected the path of a file or directory.")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{named}: there is no such home directory; write the path in full."
        ) from error


def _elsewhere(text: str) -> str:
    """What is to be done about a path of another place."""
    if is_bucket(text):
        return (
            "only the --workdir of train and prepared data sets of TFDS (config.data.data_dir) may"
            " be in a bucket. `gcloud storage cp -r` copies from there and to there."
        )
    return (
        "other places are not supported, but for gs:// as the --workdir of train and as"
        " config.data.data_dir."
    )


def is_bucket(given: str | os.PathLike[str]) -> bool:
    """Whether a path is meant to be in a bucket of Google Cloud Storage.

    Args:
      given: the path.

    Returns:
      A bool.

    Example:
      >>> is_bucket("gs://bucket/run"), is_bucket("runs/gs"), is_bucket("s3://bucket/run")
      (True, False, False)
    """
    return os.fspath(given).startswith("gs:/")


def parse_url(url: str, what: str = "") -> tuple[str, str]:
    """Takes the address of a directory in a bucket apart.

    Args:
      url: such as ``gs://bucket/runs/a``.
      what: names it in errors, such as ``--workdir``.

    Returns:
      The bucket, and the name of the directory in it.

    Raises:
      ValueError: it is none.

    Example:
      >>> parse_url("gs://bucket/runs/a/")
      ('bucket', 'runs/a')
    """
    found = _URL.fullmatch(url)
    name = found["name"].rstrip("/") if found else ""
    if not found or not all(part not in ("", ".", "..") for part in name.split("/")):
        named = f"{what}={url}" if what else url
        raise ValueError(f"{named}: expected gs://BUCKET/DIRECTORY, such as gs://bucket/runs/a.")
    return found["bucket"], name


def workdir_argument(given: str) -> Path | str:
    """As :func:`path_argument`, for the directory of a run that is to be trained.

    Args:
      given: the argument.

    Returns:
      A local path; or the address of a directory in a bucket, as it was given.

    Raises:
      argparse.ArgumentTypeError: what is wrong with it.

    Example:
      >>> workdir_argument("gs://bucket/runs/a")
      'gs://bucket/runs/a'
    """
    if not is_bucket(given):
        return path_argument(given)
    try:
        parse_url(given)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return given


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
