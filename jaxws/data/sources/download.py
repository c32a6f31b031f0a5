"""Downloading an archive, so that a download that broke off goes on where it stopped."""

import pathlib

import requests
from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn

from jaxws.data.sources.official import Archive, size_text, verify
from jaxws.system.terminal import Bar

_BLOCK = 1024**2


def download(archive: Archive, directory: pathlib.Path) -> pathlib.Path:
    """Downloads an archive unless it is there.

    Args:
      archive: what to download, with a URL.
      directory: where to; the file is called ``NAME.part`` until it is whole and verified.

    Returns:
      The path of the verified file.

    Raises:
      ValueError: if it cannot be downloaded, or is not what is expected.
    """
    path = directory / archive.file_name
    if path.exists():
        verify(archive, path)
        return path
    directory.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    try:
        if have < archive.size:
            _fetch(archive, part, have)
    except requests.RequestException as error:
        raise ValueError(
            f"{archive.url} cannot be downloaded ({type(error).__name__}): run the same command "
            f"again to go on, or put {archive.file_name} into a directory and give that by "
            "--manual_dir"
        ) from error
    try:
        verify(archive, part)
    except ValueError:
        if part.stat().st_size >= archive.size:
            part.unlink()  # To go on with it would be in vain.
        raise
    part.replace(path)
    return path


def _fetch(archive: Archive, part: pathlib.Path, have: int) -> None:
    headers = {"Range": f"bytes={have}-"} if have else {}
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bar = Bar(*columns, description=f"Downloading {archive.file_name}", total=archive.size)
    with requests.get(archive.url, headers=headers, stream=True, timeout=30) as answer, bar:
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        have = have if resumed else 0
        bar.update(completed=have)
        with part.open("ab" if resumed else "wb") as file:
            for block in answer.iter_content(_BLOCK):
                file.write(block)
                have += len(block)
                bar.update(f"{size_text(have)} of {size_text(archive.size)}", completed=have)
