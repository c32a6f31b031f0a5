"""A run whose directory is in a bucket: it works in one on this machine, which is mirrored there.

All that files promise (locks, appending, renaming) holds in the local directory; a thread sends
what has changed every few seconds. What cannot be sent is told, and sent later.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxws.records.bucket_exchange import BucketExchange
from jaxws.records.mirror import Mirror
from jaxws.records.ownership import Ownership, TakenOver
from jaxws.records.workdir_lock import take_lock
from jaxws.system.atomic import write_atomically
from jaxws.system.bucket import BucketDirectory
from jaxws.system.json_text import parse_json
from jaxws.system.text import one_line, say
from jaxws.system.user_cache import user_cache

PUSH_SECONDS = 10.0  # between two looks at what has changed


class Staging:
    """The local directory of a run in a bucket, from :func:`jaxws.records.places.opened_place`.

    Attributes:
      url: of the run.
      path: the local directory.
      exchange: how checkpoints get from process to process.
    """

    def __init__(self, url: str):
        """Takes the directory in the bucket, and fetches what is there.

        Args:
          url: of the run.

        Raises:
          ValueError: the address is none, there is something else, or a process has the run.
          OSError: the bucket or the local directory cannot be read or written.
        """
        self._bucket = BucketDirectory(url)
        self.url = self._bucket.url
        place = staging_place(self.url)
        place.mkdir(parents=True, exist_ok=True)
        self.path, self._lock, self._facts = place / "run", place / "lock", place / "bucket.json"
        self._problem: str | None = None
        self._lost: TakenOver | None = None
        self._failing = self._told_lost = False
        self._closing, self._pushing = threading.Event(), threading.Lock()
        self.exchange = BucketExchange(self._bucket, self.send)
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._owned())
            self._mirror = Mirror(self.path, self._bucket)
            self._reconcile()
            self._release = stack.pop_all()
        self._thread = threading.Thread(target=self._push_until_closed, daemon=True)
        self._thread.start()

    def send(self) -> None:
        """Sends what has changed now.

        Raises:
          OSError: something could not be sent.
        """
        with self._pushing:
            self._mirror.push(self._ownership.check)
            self._note(self._mirror.config)

    def problem(self) -> str | None:
        """What keeps files from being sent, in one line, when that has begun.

        Returns:
          The line, once; None if nothing does, or that was told.

        Raises:
          OSError: the run was taken over by another process, and must end here.
        """
        if self._lost is not None:
            self._told_lost = True
            raise self._lost
        found, self._problem = self._problem, None
        return found

    def close(self) -> None:
        """Sends the rest and gives the run back; what cannot be sent is told, and stays here."""
        self._closing.set()
        self._thread.join()
        try:
            if self._lost is not None and not self._told_lost:
                say(f"warning: {self._lost}", error=True)
            elif self._failing:
                say(f"warning: {self._unsent()}", error=True)
        finally:
            self._release.close()

    def publish(self) -> None:
        """Sends what was written after :meth:`close`, such as the report.

        Raises:
          ValueError: another process has the run.
          OSError: something could not be sent.
        """
        with self._owned():
            try:
                self.send()
            except OSError as error:
                raise OSError(f"{self._unsent()} ({error})") from error

    @contextlib.contextmanager
    def _owned(self) -> Iterator[None]:
        """The local directory and the one in the bucket are this process's."""
        with take_lock(self._lock, self.url, " of this machine"):
            self._ownership = Ownership(self._bucket)
            # Whoever had it from here is gone: the lock would be held.
            self._ownership.take(known_dead=self._known().get("owner"))
            try:
                self._note(self._known().get("config"))
                yield
            finally:
                self._ownership.release()

    def _reconcile(self) -> None:
        """Begins with what is in the bucket, unless this machine has gone on from that."""
        known, config = self._known().get("config"), self._mirror.config
        if known != config:
            self._set_aside()
        elif self._mirror.is_behind():
            say(f"{self.url}: this machine has a newer checkpoint, which could not be sent before")
            return
        self._note(config)
        self.path.mkdir(exist_ok=True)
        self._mirror.fetch()

    def _set_aside(self) -> None:
        """Keeps what is here of another run of this address, out of the way."""
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return
        number = 1
        while (aside := self.path.with_name(f"run.{number}")).exists():
            number += 1
        self.path.rename(aside)
        say(f"{self.url}: what this machine had of another run there was set aside as {aside}")

    def _known(self) -> dict[str, Any]:
        """What the last process here has noted."""
        try:
            facts = parse_json(self._facts.read_bytes())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def _note(self, config: str | None) -> None:
        """Notes who has the run from here, and which run it is."""
        facts = {"url": self.url, "owner": self._ownership.owner, "config": config}
        if facts != self._known():
            write_atomically(self._facts, json.dumps(facts) + "\n")

    def _push_until_closed(self) -> None:
        while not self._closing.wait(PUSH_SECONDS):
            self._push()
        self._push()

    def _push(self) -> None:
        try:
            self.send()
            self._failing = False
        except TakenOver as error:
            self._lost, self._failing = error, False
        except Exception as error:  # whatever it is: the run must go on
            if not self._failing:
                what = f"it will be tried again; the run is in {self.path}"
                self._problem = f"{one_line(error)}: {what}"
            self._failing = True

    def _unsent(self) -> str:
        return (
            f"not all of the run could be sent to {self.url}: it is in {self.path}, and the same"
            " command, given on this machine, sends the rest"
        )


def staging_place(url: str) -> Path:
    """Where the local directory of a run in a bucket lies.

    Args:
      url: of the run.

    Returns:
      A directory in :func:`jaxws.system.user_cache.user_cache`, which need not exist.

    Example:
      >>> staging_place("gs://bucket/runs/a").name
      'a-537dbdbd116ff65f'
    """
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    name = re.sub(r"[^A-Za-z0-9._-]", "", url.rpartition("/")[2])
    return user_cache() / "workdirs" / f"{name[:60]}-{digest}"
