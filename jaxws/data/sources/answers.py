"""What a server may answer to a request for an archive, and how much of it is read."""

import re
import time
from collections.abc import Iterator, Mapping
from urllib.parse import urljoin, urlsplit

import requests

from jaxws.data.sources.official import Archive

_BLOCK = 1024**2
_TIMEOUT = 30  # seconds without a byte
_MOST_REDIRECTS = 5
# A server that sends less than this for so long is given up, as one that sends nothing.
_SLOWEST, _WINDOW = 1024, 60.0  # bytes a second, seconds
# Types of what is for people or browsers; others are given to archives by mistake.
_PAGES = ("text/html", "application/xhtml", "text/xml", "application/xml", "application/json")
_LOGIN = "as networks do that want a login first: open a page in a browser, and run it again"


class NotTheArchiveError(ValueError):
    """A server answers with something else: nothing of it is kept."""


class _Session(requests.Session):
    """Follows no redirects: requests would read all that comes with one, which may have no end."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


def ask(archive: Archive, have: int) -> requests.Response:
    """Asks for an archive, or for what is lacking of it.

    Args:
      archive: with a URL.
      have: bytes from its beginning that are there.

    Returns:
      The answer, of which only the headers have been read; to be closed. Its status is 206 if it
      goes on after ``have`` bytes, and 200 if it begins anew.

    Raises:
      NotTheArchiveError: if the server offers another file or a web page.
      requests.RequestException: if there is no answer, or an error.
    """
    # Not compressed once more: what is counted and checked are the bytes of the file.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    answer = _get(archive.url, headers)
    try:
        if have and _goes_on_elsewhere(answer, have):
            answer.close()
            return ask(archive, 0)
        answer.raise_for_status()
        _check(archive, answer, have)
    except BaseException:
        answer.close()
        raise
    return answer


def blocks(answer: requests.Response, most: int) -> Iterator[bytes]:
    """What a server sends, as it comes.

    Args:
      answer: from :func:`ask`.
      most: number of bytes after which nothing more is read.

    Yields:
      Bytes, until there are ``most`` or the server has ended.

    Raises:
      requests.RequestException: if it sends next to nothing for a minute.
      urllib3.exceptions.HTTPError: if the connection breaks.
    """
    # read1 gives what is there, read waits for all: a server could keep it waiting for ever.
    read = getattr(answer.raw, "read1", answer.raw.read)
    began, got = time.monotonic(), 0
    while most > 0 and (block := read(min(most, _BLOCK), decode_content=False)):
        yield block
        most, got, now = most - len(block), got + len(block), time.monotonic()
        if now - began >= _WINDOW:
            if got < _SLOWEST * (now - began):
                raise requests.Timeout(f"{got} bytes in {now - began:.0f} s")
            began, got = now, 0


def check_first(archive: Archive, block: bytes) -> None:
    """Checks how an archive begins.

    Args:
      archive: what is expected.
      block: the first bytes that were sent.

    Raises:
      NotTheArchiveError: if that is a web page.

    Example:
      >>> check_first(Archive("a.zip", 9, url="https://host/a.zip"), b"<!DOCTYPE html><html>")
      Traceback (most recent call last):
      jaxws.data.sources.answers.NotTheArchiveError: https://host/a.zip answers with a web page, \
as networks do that want a login first: open a page in a browser, and run it again
    """
    if block.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):  # as no archive does
        raise _web_page(archive)


def _get(url: str, headers: Mapping[str, str]) -> requests.Response:
    with _Session() as session:
        for _ in range(_MOST_REDIRECTS):
            answer = session.get(url, headers=headers, stream=True, timeout=_TIMEOUT)
            if not answer.is_redirect:
                return answer
            answer.close()
            url = redirected(url, answer.headers["Location"])
    raise requests.TooManyRedirects(f"more than {_MOST_REDIRECTS}")


def redirected(url: str, target: str) -> str:
    """Where a redirect leads: from https to https only, and from http to either.

    Args:
      url: what was asked for.
      target: what the server says, with or without a host.

    Returns:
      The next address to ask for.

    Raises:
      NotTheArchiveError: if it leads elsewhere.

    Example:
      >>> redirected("https://host/a.zip", "/b.zip")
      'https://host/b.zip'
    """
    try:
        to = urljoin(url, target)
        scheme = urlsplit(to).scheme
    except ValueError:  # no address at all
        to, scheme = target, ""
    if scheme != "https" and (scheme != "http" or url.startswith("https:")):
        raise NotTheArchiveError(f"{url} redirects to {to!r}, which is not followed, {_LOGIN}")
    return to


def _web_page(archive: Archive) -> NotTheArchiveError:
    return NotTheArchiveError(f"{archive.url} answers with a web page, {_LOGIN}")


def _goes_on_elsewhere(answer: requests.Response, have: int) -> bool:
    """Whether a server cannot go on after so many bytes: then it is asked for all of them."""
    if answer.status_code == requests.codes.requested_range_not_satisfiable:
        return True
    first = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    partial = answer.status_code == requests.codes.partial_content
    return partial and first is not None and int(first[1]) != have


def _check(archive: Archive, answer: requests.Response, have: int) -> None:
    """Refuses an answer that cannot be the archive, by its headers."""
    if answer.headers.get("Content-Type", "").lower().startswith(_PAGES):
        raise _web_page(archive)
    length = answer.headers.get("Content-Length", "")
    have = have if answer.status_code == requests.codes.partial_content else 0
    if length.isdecimal() and int(length) + have != archive.size:
        raise NotTheArchiveError(
            f"{answer.url} has {int(length) + have} bytes, expected {archive.size} for the "
            f"official {archive.file_name}: it is another file; put the official one into a "
            "directory and give that by --manual_dir"
        )
