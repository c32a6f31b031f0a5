"""The directory of a run: config.json says whose it is, metrics.jsonl what happened in it.

One run at a time: its process, or the first of several, holds a lock on the file ``lock``, which
the system lets go of when the process ends, however it ends.
"""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxws.config.identity import differences, to_json
from jaxws.parallel import processes
from jaxws.records import provenance_file
from jaxws.records.metrics_file import MetricsFile
from jaxws.records.staging import Staging
from jaxws.records.workdir_lock import take_lock
from jaxws.system.atomic import is_temporary, write_atomically
from jaxws.system.local_path import local_path

_OWN_FILES = {"config.json.tmp", "lock"}  # what a start that broke off leaves, or an older one


class Workdir(MetricsFile):
    """A run's directory, locked until :meth:`close`.

    Attributes:
      path: the directory.
      place: what people know it by: the directory, or the address in a bucket that it stands for.
      checkpoints: where checkpoints lie.
      resumed: whether the directory held this run before.
      exchange: how checkpoints get from process to process, if not by a file system.
      identity: what config.json holds: :func:`jaxws.config.identity.to_json` of the run.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        config: ConfigDict,
        dataset: Mapping[str, Any] | None = None,
        staging: Staging | None = None,
    ):
        """Opens the directory, or makes it; never changes one that belongs to something else.

        Args:
          path: the directory.
          config: of the run.
          dataset: facts that tell the run's data from others, kept beside the configuration.
          staging: what mirrors the directory in a bucket; closed with this.

        Raises:
          ValueError: the directory cannot be made or written, holds other things, holds a run with
            another configuration or other data or records that are damaged, or is in use by another
            process.
        """
        self.identity = to_json(config, dataset or {})
        self.path = local_path(path, "--workdir").absolute()
        self._staging, self.place = staging, staging.url if staging else str(self.path)
        self.exchange = staging.exchange if staging else None
        self.checkpoints = self.path / "checkpoints"
        self._config_file = self.path / "config.json"
        super().__init__(self.path / "metrics.jsonl")
        try:
            self.resumed = self._claim()
        except OSError as error:
            raise ValueError(
                f"workdir {self.place} cannot be used: {self._why(error)}. Give a directory that"
                " can be written by --workdir."
            ) from error
        told = {"path": str(self.path), "holder": os.getpid(), "resumed": self.resumed}
        processes.broadcast(json.dumps(told), "workdir")

    def _why(self, error: OSError) -> str:
        if isinstance(error, FileExistsError):
            return "there is a file, or a link to nowhere, of this name"
        inside = error.filename and Path(error.filename) != self.path
        return f"{error.strerror or error}" + (f": {error.filename}" if inside else "")

    def _claim(self) -> bool:
        self.path.mkdir(parents=True, exist_ok=True)
        if self._config_file.exists():
            self._refuse_other()
            self._take_lock()
            self._refuse_damaged()
            return True
        names = {entry.name for entry in self.path.iterdir()} - _OWN_FILES
        if any(not is_temporary(name) for name in names):
            raise ValueError(
                f"workdir {self.place} is not empty and is not a run of jaxws (no config.json):"
                " nothing was changed. Give a new or empty directory by --workdir."
            )
        self._take_lock()
        write_atomically(self._config_file, self.identity)
        return False

    def _take_lock(self) -> None:
        held = take_lock(self.path / "lock", self.place)
        self._release = weakref.finalize(self, held.close)

    def _refuse_damaged(self) -> None:
        """Reads all records, so that what is wrong with them is told before anything is done."""
        try:
            for _ in self.records():
                pass
            provenance_file.read(self.path)
        except (ValueError, OSError):
            self._release()
            raise

    def append(self, record: dict[str, Any]) -> None:
        """As in a file; what keeps a bucket from being written becomes a record too.

        Args:
          record: see :meth:`MetricsFile.append`.

        Raises:
          OSError: another process has taken over the run.
        """
        super().append(record)
        if self._staging and (problem := self._staging.problem()):
            self.warn(record["step"], "not sent to the bucket", problem)

    def publish(self) -> None:
        """Sends to a bucket what was written since :meth:`close`; nothing for a local run.

        Raises:
          ValueError: another process has the run.
          OSError: something could not be sent.
        """
        if self._staging:
            self._staging.publish()

    def resume_from(
        self,
        step: int,
        history: Sequence[dict[str, Any]] = (),
        *,
        ends: bool = False,
        evaluates: bool = False,
    ) -> None:
        """As :meth:`MetricsFile.resume_from`; other processes of the run get the history."""
        super().resume_from(step, history, ends=ends, evaluates=evaluates)
        processes.broadcast(json.dumps(self.history), "history")

    def close(self) -> None:
        """Writes what a full disk has kept back, and lets go of the lock; reading goes on to work.

        What is mirrored in a bucket is sent.

        Raises:
          OSError: there is still no room for the metrics.
        """
        try:
            self.write_rest()
        finally:
            self._release()
            if self._staging:
                self._staging.close()

    def _refuse_other(self) -> None:
        try:
            changed = differences(self.identity, self._config_file.read_text())
        except (ValueError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{self._config_file} is not the JSON that jaxws writes ({error}): nothing was"
                " changed. Give another directory by --workdir."
            ) from error
        if changed:
            raise ValueError(
                f"workdir {self.place} holds a run with another configuration ("
                + "; ".join(changed)
                + "): nothing was changed. Give another directory by --workdir."
            )
