"""Downloading an archive, so that a download that broke off goes on where it stopped.

How large the archive is, and its checksum, are known beforehand: whatever a server sends, no more
than that is written, and nothing else is kept.
"""

import contextlib
import errno
import os
import pathlib
import shlex
from collections.abc import Iterator
from typing import BinaryIO

import requests
import urllib3
from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn

from jaxws.data.sources.answers import ask, blocks, check_first
from jaxws.data.sources.official import Archive, verify
from jaxws.system.atomic import open_in_place
from jaxws.system.locks import lock
from jaxws.system.terminal import Bar
from jaxws.system.text import size_text

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # of file systems that have none


def download(archive: Archive, directory: pathlib.Path) -> pathlib.Path:
    """Downloads an archive unless it is there.

    Args:
      archive: what to download, with a URL.
      directory: where to; the file is called ``NAME.part`` until it is whole and verified.

    Returns:
      The path of the verified file.

    Raises:
      ValueError: if it cannot be downloaded or written, or is not what is expected.
    """
    path = directory / archive.file_name
    try:
        if not path.exists():
            directory.mkdir(parents=True, exist_ok=True)
            _download(archive, path)
        else:
            _verify_old(archive, path)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        reason = type(error).__name__
        if isinstance(error, requests.HTTPError) and error.response is not None:
            reason = f"{error.response.status_code} {error.response.reason}"
        raise ValueError(
            f"{archive.url} cannot be downloaded ({reason}): run the same command again to go on, "
            f"or put {archive.file_name} into a directory and give that by --manual_dir"
        ) from error
    except OSError as error:
        raise ValueError(
            f"{archive.file_name} cannot be written to {directory} ({error.strerror or error}): "
            "make room or give another --data_dir, and run the same command again; it goes on"
        ) from error
    return path


def _download(archive: Archive, path: pathlib.Path) -> None:
    part = path.with_name(path.name + ".part")
    with _claimed(part) as file:
        try:
            if path.exists():  # by another process, since it was looked for
                return
            _complete(archive, file)
            try:
                verify(archive, part)
            except ValueError:
                file.truncate(0)  # to go on with it would be in vain
                raise
            part.replace(path)
        finally:
            if not os.fstat(file.fileno()).st_size:
                part.unlink(missing_ok=True)


@contextlib.contextmanager
def _claimed(part: pathlib.Path) -> Iterator[BinaryIO]:
    """The part, open and locked: two processes must not write one file."""
    try:
        file = lock(part)
    except BlockingIOError as error:
        raise ValueError(
            f"{part} is being written by another process: wait until it is done, and run the same "
            "command again"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        file = open_in_place(part)
    with file:
        yield file


def _complete(archive: Archive, file: BinaryIO) -> None:
    """Fetches what a part lacks; of one that is too large, all."""
    have = os.fstat(file.fileno()).st_size
    if have == archive.size:
        return
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bar = Bar(*columns, description=f"Downloading {archive.file_name}", total=archive.size)
    with ask(archive, have if have < archive.size else 0) as answer, bar:
        have = have if answer.status_code == requests.codes.partial_content else 0
        first = have == 0
        for block in blocks(answer, archive.size - have):
            if first:
                check_first(archive, block)
                file.truncate(0)
            first = False
            _write(file, have, block)
            have += len(block)
            bar.update(f"{size_text(have)} of {size_text(archive.size)}", completed=have)
    os.fsync(file.fileno())
    if have < archive.size:
        raise requests.ConnectionError(f"{have} of {archive.size} bytes were sent")


def _write(file: BinaryIO, place: int, block: bytes) -> None:
    rest = memoryview(block)
    file.seek(place)
    while rest:
        rest = rest[file.write(rest) :]


def _verify_old(archive: Archive, path: pathlib.Path) -> None:
    try:
        verify(archive, path)
    except ValueError as error:
        raise ValueError(
            f"{error}: remove it by `rm {shlex.quote(str(path))}` and run the same command again"
        ) from error
