"""The directory of a run: config.json says whose it is, metrics.jsonl what happened in it.

One process at a time: it holds a lock on the file ``lock``, which the system lets go of when the
process ends, however it ends.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxws.atomic import write_atomically
from jaxws.config import differences, to_json

# Keys of metrics.jsonl that depend on the clock or the machine.
CLOCK = ("step_seconds", "images_per_second", "data_wait", "device_memory_bytes")

_OWN_FILES = {"config.json.tmp", "lock"}  # what a start that broke off leaves
_HISTORY = ("epoch", "event")


class Workdir:
    """A run's directory, locked until :meth:`close`.

    Attributes:
      path: the directory.
      checkpoints: where checkpoints lie.
      resumed: whether the directory held this run before.
      identity: what config.json holds: :func:`jaxws.config.to_json` of the run.
      history: records of kinds ``epoch`` and ``event`` so far.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        config: ConfigDict,
        dataset: Mapping[str, Any] | None = None,
    ):
        """Opens the directory, or makes it; never changes one that belongs to something else.

        Args:
          path: the directory.
          config: of the run.
          dataset: facts that tell the run's data from others, kept beside the configuration.

        Raises:
          ValueError: the directory cannot be made or written, holds other things, holds a run with
            another configuration or other data, or is in use by another process.
        """
        self.identity = to_json(config, dataset or {})
        self.path = Path(path).expanduser().absolute()
        self.checkpoints = self.path / "checkpoints"
        self._config_file = self.path / "config.json"
        self._metrics_file = self.path / "metrics.jsonl"
        self.history: list[dict[str, Any]] = []
        self._unwritten: list[str] = []
        try:
            self.resumed = self._claim()
        except OSError as error:
            raise ValueError(
                f"workdir {self.path} cannot be used: {error.strerror or error}. Give a directory"
                " that can be written by --workdir."
            ) from error

    def _claim(self) -> bool:
        self.path.mkdir(parents=True, exist_ok=True)
        if self._config_file.exists():
            self._refuse_other()
            self._take_lock()
            return True
        if any(entry.name not in _OWN_FILES for entry in self.path.iterdir()):
            raise ValueError(
                f"workdir {self.path} is not empty and is not a run of jaxws (no config.json):"
                " nothing was changed. Give a new or empty directory by --workdir."
            )
        self._take_lock()
        write_atomically(self._config_file, self.identity)
        return False

    def _take_lock(self) -> None:
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        self._release = weakref.finalize(self, os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(lock, 32).decode().strip() or "?"
            raise ValueError(
                f"workdir {self.path} is in use by process {holder}: wait for it, stop it, or give"
                " another directory by --workdir."
            ) from error
        os.truncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())

    def close(self) -> None:
        """Writes what a full disk has kept back, and lets go of the lock; reading goes on to work.

        Raises:
          OSError: there is still no room for the metrics.
        """
        try:
            if self._unwritten:
                self._write()
        finally:
            self._release()

    def _refuse_other(self) -> None:
        try:
            changed = differences(self.identity, self._config_file.read_text())
        except (ValueError, AttributeError) as error:
            raise ValueError(
                f"{self._config_file} is not the JSON that jaxws writes ({error}): nothing was"
                " changed. Give another directory by --workdir."
            ) from error
        if changed:
            raise ValueError(
                f"workdir {self.path} holds a run with another configuration ("
                + "; ".join(changed)
                + "): nothing was changed. Give another directory by --workdir."
            )

    def append(self, record: dict[str, Any]) -> None:
        """Adds a line to metrics.jsonl; numbers that are not finite become null.

        On a full disk, lines are kept in memory and written with a later one; the file always ends
        with a whole line.

        Args:
          record: the line, with at least ``kind`` and ``step``.
        """
        record = _finite(record)
        if record["kind"] in _HISTORY:
            self.history.append(record)
        self._unwritten.append(json.dumps(record, allow_nan=False) + "\n")
        try:
            self._write()
        except OSError as error:
            if len(self._unwritten) == 1:  # the first one that is kept back
                print(
                    f"warning: {self._metrics_file} cannot be written ({error.strerror}): records"
                    " are kept in memory until it can be.",
                    file=sys.stderr,
                )

    def _write(self) -> None:
        """Writes what is still to be written, or nothing."""
        data = "".join(self._unwritten).encode()
        # Unbuffered: a buffer would try once more when it is closed.
        with self._metrics_file.open("ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(end)
                raise
        self._unwritten.clear()

    def records(self) -> Iterator[dict[str, Any]]:
        """Reads metrics.jsonl; a last line that was cut off by a crash is left out.

        Yields:
          The lines as dicts.

        Raises:
          ValueError: another line is not JSON.
        """
        for _, record in self._lines():
            yield record

    def _lines(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Whole lines, as they stand there and as dicts."""
        if not self._metrics_file.exists():
            return
        lines = self._metrics_file.read_bytes().split(b"\n")[:-1]
        for number, line in enumerate(lines, start=1):
            try:
                yield line.decode() + "\n", json.loads(line)
            except ValueError as error:
                if number < len(lines):
                    raise ValueError(
                        f"line {number} of {self._metrics_file} is not JSON: repair or remove it;"
                        " nothing was changed."
                    ) from error

    def resume_from(
        self, step: int, history: Sequence[dict[str, Any]] = (), *, ends: bool = False
    ) -> None:
        """Drops the metrics of steps that will be done again, and of an epoch to be finished.

        Args:
          step: the step that the run resumes from.
          history: records of earlier steps, which are put in where the file has lost them.
          ends: whether the run ends at this step, so that no epoch is to be finished.

        Raises:
          ValueError: a line is not JSON.
        """
        lines = [*self._lines(), *((line, json.loads(line)) for line in self._unwritten)]
        lines = [(line, record) for line, record in lines if _stays(record, step, ends)]
        kept = [record for _, record in lines]
        lost = [r for r in history if _stays(r, step, ends) and r not in kept]
        if lost:
            lines += [(json.dumps(record) + "\n", record) for record in lost]
            lines.sort(key=lambda pair: pair[1]["step"])
        self.history = [record for _, record in lines if record["kind"] in _HISTORY]
        self._replace("".join(line for line, _ in lines).encode())
        self._unwritten.clear()

    def _replace(self, data: bytes) -> None:
        """Changes metrics.jsonl; shortens it where that will do, as a full disk allows that."""
        before = self._metrics_file.read_bytes() if self._metrics_file.exists() else b""
        if before.startswith(data):
            if before != data:
                os.truncate(self._metrics_file, len(data))
        else:
            write_atomically(self._metrics_file, data.decode())


def timeless(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without what depends on the clock or the machine.

    What is left is the same in every run of a configuration on the same kind of machine, however
    often it was stopped.

    Args:
      record: of metrics.jsonl.

    Returns:
      A copy.

    Example:
      >>> timeless({"kind": "epoch", "step": 4, "images_per_second": 51.2})
      {'kind': 'epoch', 'step': 4}
    """
    return {key: value for key, value in record.items() if key not in CLOCK}


def _stays(record: Mapping[str, Any], step: int, ends: bool) -> bool:
    within = record["kind"] == "epoch" and record["epoch"] % 1 != 0
    return record["step"] <= step and (ends or not within)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
