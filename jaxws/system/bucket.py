"""A directory in a bucket of Google Cloud Storage: whole objects, read, written and compared.

TensorStore, which checkpoints need anyway, talks to the service: no other package is needed, it
tries again what fails for a while, and it can make a write depend on what is there, which a lock
needs. Its credentials are those of the machine or of ``gcloud auth application-default login``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import tensorstore as ts

from jaxws.system.atomic import replacing
from jaxws.system.local_path import parse_url
from jaxws.system.text import one_line

# Half a minute, after which the caller goes on and tries again later.
_RETRIES = {"max_retries": 6, "initial_delay": "250ms", "max_delay": "8s"}
_AT_A_TIME = 4  # objects in memory
_SECONDS, _BYTES_PER_SECOND = 60.0, 2e6  # that an answer may take, at the least rate
_LONGEST_SECONDS = 3600.0  # where the size is not known before
_LOGIN = "run `gcloud auth application-default login`, or let this machine's account write there"
_ADVICE = {
    "PERMISSION_DENIED": _LOGIN,
    "UNAUTHENTICATED": _LOGIN,
    "NOT_FOUND": "make the bucket, or correct its name",
}

ABSENT = b"\x02"  # the generation that TensorStore gives to what is not there


class Object(NamedTuple):
    """What is in a bucket under a name.

    Attributes:
      content: its bytes.
      generation: changes with every write.
    """

    content: bytes
    generation: bytes


class BucketDirectory:
    """Objects whose names begin with that of a directory, by the rest of their names.

    Attributes:
      url: of the directory, without a slash at its end.
    """

    def __init__(self, url: str):
        """Asks the service for nothing yet.

        Args:
          url: see :func:`jaxws.system.local_path.parse_url`.

        Raises:
          ValueError: it is none of a directory in a bucket.
        """
        bucket, name = parse_url(url)
        self.url = f"gs://{bucket}/{name}"
        self._context = ts.Context({"gcs_request_retries": _RETRIES})
        self._spec = {"driver": "gcs", "bucket": bucket, "path": f"{name}/"}
        self._opened: ts.KvStore | None = None

    @property
    def _store(self) -> ts.KvStore:
        if self._opened is None:
            self._opened = ts.KvStore.open(self._spec, context=self._context).result()
        return self._opened

    def names(self) -> list[str]:
        """Lists all objects, in subdirectories too.

        Returns:
          Their names in the directory.

        Raises:
          OSError: the bucket cannot be read.
        """
        found = self._do("be read", self._store.list, _SECONDS)
        return sorted(key.decode(errors="surrogateescape") for key in found)

    def read(self, name: str) -> Object | None:
        """Reads an object.

        Args:
          name: of it.

        Returns:
          The object; None if there is none.

        Raises:
          OSError: it cannot be read.
        """
        found = self._do("be read", lambda: self._store.read(_key(name)), _LONGEST_SECONDS, name)
        if found.state != "value":
            return None
        return Object(found.value, found.stamp.generation)

    def write(self, name: str, content: bytes, *, only_if: bytes | None = None) -> bytes | None:
        """Writes an object, whole or not at all.

        Args:
          name: of it.
          content: of it.
          only_if: the generation of what is to be replaced, ``ABSENT`` for nothing; None to write
            whatever is there.

        Returns:
          The new generation; None if something else was there and nothing was written. It may have
          been written by this call too, where the first answer was lost.

        Raises:
          OSError: it cannot be written.
        """
        seconds = _SECONDS + len(content) / _BYTES_PER_SECOND
        stamp = self._do(
            "be written",
            lambda: self._store.write(_key(name), content, if_equal=only_if),
            seconds,
            name,
        )
        return stamp.generation or None

    def remove(self, name: str, *, only_if: bytes | None = None) -> None:
        """Removes an object, if it is there.

        Args:
          name: of it.
          only_if: as in :meth:`write`.

        Raises:
          OSError: it cannot be removed.
        """
        self._do(
            "be removed",
            lambda: self._store.write(_key(name), None, if_equal=only_if),
            _SECONDS,
            name,
        )

    def upload(self, files: dict[str, Path]) -> None:
        """Writes files, several at a time.

        Args:
          files: by the names of their objects.

        Raises:
          OSError: one cannot be read or written; others may have been.
        """
        self._each(lambda name: self.write(name, files[name].read_bytes()), list(files))

    def download(self, files: dict[str, Path]) -> None:
        """Reads objects into files, several at a time, each whole; directories are made.

        Args:
          files: by the names of the objects.

        Raises:
          OSError: one is gone or cannot be read, or a file cannot be written.
        """

        def fetch(name: str) -> None:
            found = self.read(name)
            if found is None:
                raise FileNotFoundError(errno.ENOENT, "is gone", f"{self.url}/{name}")
            files[name].parent.mkdir(parents=True, exist_ok=True)
            with replacing(files[name]) as file:
                file.write_bytes(found.content)

        self._each(fetch, list(files))

    def remove_all(self, names: list[str]) -> None:
        """Removes objects, several at a time.

        Args:
          names: of them.

        Raises:
          OSError: one cannot be removed.
        """
        self._each(self.remove, names)

    def _each(self, do: Callable[[str], Any], names: list[str]) -> None:
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            futures = [pool.submit(do, name) for name in names]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _do(self, what: str, request: Callable[[], Any], seconds: float, name: str = "") -> Any:
        """Makes a request, and waits for so long; what goes wrong is an OSError of one line."""
        future = None
        try:
            future = request()
            return future.result(timeout=seconds)
        # TensorStore raises ValueError, KeyError, RuntimeError, ... by the status; or it is late.
        except Exception as error:
            if future is not None:
                future.cancel()  # one that is late must not write over what comes after it
            where = f"{self.url}/{name}" if name else self.url
            text = one_line(error) or type(error).__name__
            advice = next((a for status, a in _ADVICE.items() if text.startswith(status)), "")
            reason = text.partition(" [")[0] + (f": {advice}" if advice else "")
            raise OSError(f"{where} cannot {what} ({reason})") from error


def _key(name: str) -> bytes:
    return name.encode(errors="surrogateescape")
