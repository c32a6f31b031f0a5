"""The directory of a run as its other processes see it: process 0 alone writes there."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxws.config.identity import to_json
from jaxws.parallel import processes
from jaxws.records.metrics_file import MetricsFile
from jaxws.records.places import FollowedStaging, Place
from jaxws.records.workdir import Workdir

# File systems that machines share may show a new file this much later.
_SEEN_SECONDS = 60.0


def open_workdir(
    path: str | os.PathLike[str],
    config: ConfigDict,
    dataset: Mapping[str, Any] | None = None,
    staging: Place | None = None,
) -> Workdir:
    """Opens the directory of a run, in all of its processes at once.

    Args:
      path: the directory; that of process 0 counts.
      config: of the run.
      dataset: as for :class:`jaxws.records.workdir.Workdir`.
      staging: what mirrors the directory in a bucket.

    Returns:
      The directory: in process 0, locked.

    Raises:
      ValueError: as :class:`jaxws.records.workdir.Workdir`; or it is not the same in all processes.
    """
    if isinstance(staging, FollowedStaging):
        return FollowedWorkdir(config, dataset, staging)
    if not processes.is_first():
        return FollowedWorkdir(config, dataset)
    return Workdir(path, config, dataset, staging)


class FollowedWorkdir(Workdir):
    """A run's directory in a process that is not the first: nothing is written there.

    The history is what process 0 tells on resuming, and what this process adds.
    """

    def __init__(
        self,
        config: ConfigDict,
        dataset: Mapping[str, Any] | None = None,
        staging: FollowedStaging | None = None,
    ):
        """Waits until process 0 has opened the directory.

        Args:
          config: of the run.
          dataset: facts that tell the run's data from others.
          staging: this process's own directory, where the run is in a bucket.

        Raises:
          ValueError: this process does not see process 0's directory.
        """
        told = json.loads(processes.broadcast(None, "workdir"))
        self.identity = to_json(config, dataset or {})
        self.path = staging.path if staging else Path(told["path"])
        self.place, self.resumed = staging.url if staging else str(self.path), told["resumed"]
        self.exchange = staging.exchange if staging else None
        self.checkpoints = self.path / "checkpoints"
        MetricsFile.__init__(self, self.path / "metrics.jsonl")
        if staging is None:
            self._wait_until_seen(str(told["holder"]))

    def _wait_until_seen(self, holder: str) -> None:
        """Process 0 has written its number into the lock."""
        end = time.monotonic() + _SEEN_SECONDS
        while (found := _content(self.path / "lock")) != holder:
            if time.monotonic() > end:
                raise ValueError(
                    f"workdir {self.path} is not the one of process 0 here"
                    f" ({'it is not there' if found is None else 'another one is'}): give a"
                    " directory on a file system that all machines share by --workdir."
                )
            time.sleep(0.2)

    def append(self, record: dict[str, Any]) -> None:
        """Adds to the history what belongs there."""
        self.remember(record)

    def warn(self, step: int, event: str, message: str) -> None:
        """Adds to the history; process 0 tells it."""
        self.append({"kind": "event", "step": step, "event": event, "message": message})

    def records(self) -> Iterator[dict[str, Any]]:
        """None: they are for process 0 to read."""
        return iter(())

    def resume_from(
        self,
        step: int,
        history: Sequence[dict[str, Any]] = (),
        *,
        ends: bool = False,
        evaluates: bool = False,
    ) -> None:
        """Takes over the history that process 0 has left."""
        self.history = json.loads(processes.broadcast(None, "history"))

    def close(self) -> None:
        """There is nothing to let go of."""


def _content(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None
