"""A run's directory on this machine and its mirror in a bucket: what is sent, and what is fetched.

Objects have the names of the files. Two rules keep the mirror such that a run can go on from it at
any time, wherever a process was killed:

- A checkpoint in the bucket is whole if its list of checksums is there. That is sent last and
  removed first; without it, the other objects are what is left of a send that was broken off.
- Records are sent before the checkpoints that came after them, config.json before all; what names
  the newest checkpoint is sent after it.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxws.records import ownership
from jaxws.records.mirrored_files import Signature, files_in, mirrored_files, signature_of
from jaxws.system.bucket import BucketDirectory
from jaxws.system.json_text import parse_json

CONFIG = "config.json"
PARTS = "parts/"  # see jaxws.records.bucket_exchange; not mirrored
_LAST = "sha256.json"  # of a checkpoint's files, see jaxws.checkpointing.checksums
_CHECKPOINT = re.compile(r"checkpoints/(0|[1-9][0-9]{0,17})/(.+)")
_NAMES_NEWEST = re.compile(r"checkpoints[./]newest")  # see jaxws.checkpointing.directory


class Mirror:
    """Sends a directory's files to a bucket as they change, or fetches them all.

    Attributes:
      config: the generation of config.json in the bucket, which tells a run from others that were
        there before; empty if there is none.
    """

    def __init__(self, local: Path, directory: BucketDirectory):
        """Lists what is in the bucket.

        Args:
          local: the directory on this machine.
          directory: the one in the bucket.

        Raises:
          OSError: the bucket cannot be read.
          ValueError: there is something in it that is no run.
        """
        self._local, self._bucket = local, directory
        names = directory.names()
        self._names = {name for name in names if _is_ours(name)}
        self._parts = [name for name in names if name.startswith(PARTS)]  # of an earlier process
        self._sent: dict[str, Signature] = {}  # of checkpoints, the lists of checksums alone
        found = directory.read(CONFIG) if CONFIG in self._names else None
        self.config = found.generation.hex() if found else ""
        if self._names and not found:
            raise ValueError(
                f"workdir {directory.url} is not empty and is not a run of jaxws (no config.json):"
                " nothing was changed. Give a new or empty directory by --workdir."
            )

    def is_behind(self) -> bool:
        """Whether this machine has a newer checkpoint than the bucket."""
        here, there = self._steps_here(), self._steps_there()
        return max(here, default=-1) > max(there, default=-1)

    def fetch(self) -> None:
        """Makes the local directory what the bucket has; only checkpoints that differ are read.

        Raises:
          OSError: something cannot be read, or written here.
        """
        for left in self._local.glob("checkpoints/*.fetched"):
            shutil.rmtree(left)
        there = self._steps_there()
        for step in self._steps_here() - there:
            shutil.rmtree(self._local / "checkpoints" / str(step))
        for step in sorted(there, reverse=True):
            self.fetch_checkpoint(step)
        plain = {name for name in self._names if not _CHECKPOINT.fullmatch(name)}
        for name in dict(mirrored_files(self._local)).keys() - plain:
            if not _CHECKPOINT.fullmatch(name):
                (self._local / name).unlink()
        self._bucket.download({name: self._local / name for name in plain})
        self._sent = {
            name: sign for name, sign in mirrored_files(self._local) if name in self._names
        }

    def fetch_checkpoint(self, step: int) -> None:
        """Reads a checkpoint unless it is here, and gives it its name when it is whole.

        Args:
          step: of the checkpoint.

        Raises:
          OSError: it cannot be read, or written here.
        """
        place = self._local / "checkpoints" / str(step)
        digests = self._bucket.read(f"checkpoints/{step}/{_LAST}")
        if digests is None:
            return
        if place.is_dir():
            if _read(place / _LAST) == digests.content:
                return
            shutil.rmtree(place)
        partial = place.with_name(f"{step}.fetched")
        start = f"checkpoints/{step}/"
        self._bucket.download({n: partial / n.removeprefix(start) for n in self._names_of(step)})
        partial.rename(place)

    def push(self, check: Callable[[], None]) -> None:
        """Sends what has changed, and removes checkpoints that the run no longer keeps.

        Args:
          check: raises if the bucket is no longer this process's; asked before what others read.

        Raises:
          OSError: something could not be sent; the next push tries it again.
        """
        if not (self._local / CONFIG).is_file():
            return  # the run has not begun, or its directory was taken away
        check()
        # Each of these is looked at before what must not be older than it.
        newest = self._changed(_NAMES_NEWEST.fullmatch)
        here = self._steps_here()
        self._write(self._changed(lambda name: not _NAMES_NEWEST.fullmatch(name)))
        for step in sorted(here):
            if not self._is_sent(step):
                self._send_checkpoint(step, check)
        there = self._steps_there()
        if max(here, default=-1) in there:
            self._write(newest)
            check()
            for step in there - here:
                self._remove_checkpoint(step)
        self._remove_unfinished(here)

    def _changed(self, which: Callable[[str], Any]) -> dict[str, tuple[Signature, bytes]]:
        """Files, other than those of checkpoints, that are not as they were sent."""
        found = {}
        for name, signature in mirrored_files(self._local):
            if _CHECKPOINT.fullmatch(name) or not which(name):
                continue
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                if self._sent.get(name) != signature:
                    found[name] = signature, (self._local / name).read_bytes()
        return found

    def _write(self, files: Mapping[str, tuple[Signature, bytes]]) -> None:
        """Sends files, one after the other."""
        for name in sorted(files, key=lambda name: (name != CONFIG, name)):
            signature, content = files[name]
            generation = self._bucket.write(name, content)
            if name == CONFIG and generation:
                self.config = generation.hex()
            self._sent[name] = signature
            self._names.add(name)

    def _is_sent(self, step: int) -> bool:
        """Whether a checkpoint is in the bucket; one of its step may be, from an earlier life."""
        name = f"checkpoints/{step}/{_LAST}"
        if name not in self._names:
            return False
        path = self._local / name
        with contextlib.suppress(FileNotFoundError):  # it is being removed
            if self._sent.get(name) == (signature := signature_of(path)):
                return True
            found = self._bucket.read(name)
            if found is not None and found.content == path.read_bytes():
                self._sent[name] = signature
                return True
            self._remove_checkpoint(step)
        return False

    def _send_checkpoint(self, step: int, check: Callable[[], None]) -> None:
        start = f"checkpoints/{step}/"
        files = {f"{start}{name}": path for name, path in files_in(self._local / start)}
        last = files.pop(f"{start}{_LAST}", None)
        try:
            digests = last.read_bytes() if last else b"{}"
            if not last or any(f"{start}{name}" not in files for name in parse_json(digests)):
                return  # it is being removed
            self._names.update(files)
            self._bucket.upload(files)
        except FileNotFoundError:  # it was removed meanwhile
            return
        check()
        self._bucket.write(f"{start}{_LAST}", digests)
        self._names.add(f"{start}{_LAST}")

    def _remove_checkpoint(self, step: int) -> None:
        self._remove([f"checkpoints/{step}/{_LAST}"])
        self._remove(self._names_of(step))

    def _remove_unfinished(self, here: set[int]) -> None:
        """Removes what is left of checkpoints whose sending was broken off, and are gone here."""
        self._bucket.remove_all(self._parts)
        self._parts = []
        found = {int(m[1]) for name in self._names if (m := _CHECKPOINT.fullmatch(name))}
        for step in found - self._steps_there() - here:
            self._remove(self._names_of(step))

    def _remove(self, names: list[str]) -> None:
        self._bucket.remove_all(names)
        self._names.difference_update(names)

    def _names_of(self, step: int) -> list[str]:
        return sorted(name for name in self._names if name.startswith(f"checkpoints/{step}/"))

    def _steps_there(self) -> set[int]:
        found = map(_CHECKPOINT.fullmatch, self._names)
        return {int(match[1]) for match in found if match and match[2] == _LAST}

    def _steps_here(self) -> set[int]:
        found = (_CHECKPOINT.fullmatch(name) for name, _ in mirrored_files(self._local))
        return {int(match[1]) for match in found if match and match[2] == _LAST}


def _is_ours(name: str) -> bool:
    """Whether an object stands for a file below the directory; some stand for directories."""
    parts = name.split("/")
    is_file = name != ownership.NAME and not name.startswith(PARTS)
    return is_file and not {"", ".", ".."} & {*parts} and "\0" not in name


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
