"""Whose a directory in a bucket is: an object there names the process, and beats while it lives.

A bucket has no locks that the system lets go of. Who finds the object of another process watches it
for longer than beats are apart: if nothing changes, that process is gone. Taking over is one write
that depends on nothing having changed, so that of two who try, one succeeds.

What it cannot promise: a process that is suspended for longer than ``WATCH_SECONDS``, and then goes
on, may finish one request before it sees that it has been replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from typing import Any

from jaxws.system.bucket import ABSENT, BucketDirectory, Object
from jaxws.system.json_text import parse_json
from jaxws.system.text import say

NAME = "lock"
BEAT_SECONDS = 15.0
WATCH_SECONDS = 60.0  # a few beats may be lost
_LOOKS = 12  # within this time


class TakenOver(OSError):
    """Another process has taken the directory."""


class Ownership:
    """A directory in a bucket that is this process's, until :meth:`release`.

    Attributes:
      owner: names this owner among all others.
    """

    def __init__(self, directory: BucketDirectory):
        """Takes nothing yet.

        Args:
          directory: to be owned.
        """
        self._directory, self.owner = directory, secrets.token_hex(8)
        self._generation = ABSENT
        self._lost, self._lock = False, threading.Lock()
        self._beaten, self._stop = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._beat_until_stopped, daemon=True)

    def take(self, known_dead: str | None) -> None:
        """Takes the directory, and keeps saying so in a thread.

        Args:
          known_dead: an owner that is known to be gone.

        Raises:
          ValueError: another process has it.
          OSError: the bucket cannot be read or written.
        """
        found = self._directory.read(NAME)
        if found is not None and _holder(found).get("owner") != known_dead:
            found = self._watch(found)
        if not self._write(ABSENT if found is None else found.generation):
            raise _in_use(self._directory, self._directory.read(NAME))
        self._thread.start()

    def check(self) -> None:
        """Sees to it that the directory is still this process's.

        Raises:
          TakenOver: it is another one's.
          OSError: for too long it could not be seen whose it is.
        """
        if time.monotonic() - self._beaten > WATCH_SECONDS / 2:
            self._beat()
        if self._lost:
            raise TakenOver(
                f"{self._directory.url} was taken over by another process, as this one had not been"
                " heard of for a minute: nothing more is written there"
            )

    def release(self) -> None:
        """Gives the directory back; where that cannot be said, others have to watch it first."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock, contextlib.suppress(OSError):
            if not self._lost and self._generation != ABSENT:
                self._directory.remove(NAME, only_if=self._generation)

    def _watch(self, found: Object) -> Object | None:
        """Waits for a sign of life of another owner; what is there if there is none."""
        holder = _holder(found)
        say(
            f"{self._directory.url} was in use by process {holder.get('process', '?')} on"
            f" {holder.get('host', '?')}: waiting {WATCH_SECONDS:g} s for a sign of life of it"
        )
        for _ in range(_LOOKS):
            time.sleep(WATCH_SECONDS / _LOOKS)
            now = self._directory.read(NAME)
            if now is None:
                return None
            if now.generation != found.generation:
                raise _in_use(self._directory, now)
        return found

    def _write(self, expected: bytes) -> bool:
        """Says that this process lives, if nobody else has said anything since."""
        now = {
            "owner": self.owner,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "time": round(time.time(), 3),
        }
        begun = time.monotonic()
        written = self._directory.write(NAME, json.dumps(now).encode(), only_if=expected)
        if written is None:  # this write may be the reason, where its first answer was lost
            found = self._directory.read(NAME)
            if found is None or _holder(found).get("owner") != self.owner:
                return False
            written = found.generation
        self._generation, self._beaten = written, begun
        return True

    def _beat(self) -> None:
        with self._lock:
            self._lost = self._lost or not self._write(self._generation)

    def _beat_until_stopped(self) -> None:
        while not self._stop.wait(BEAT_SECONDS) and not self._lost:
            with contextlib.suppress(OSError):  # the next one may do
                self._beat()


def _holder(found: Object) -> dict[str, Any]:
    try:
        holder = parse_json(found.content)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _in_use(directory: BucketDirectory, found: Object | None) -> ValueError:
    holder = _holder(found) if found else {}
    return ValueError(
        f"workdir {directory.url} is in use by process {holder.get('process', '?')} on"
        f" {holder.get('host', '?')}: wait for it, stop it, or give another directory by --workdir."
    )
