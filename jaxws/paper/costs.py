"""What runs cost on this machine: measured once for each kind of step, kept, and added up."""

from __future__ import annotations

import heapq
import json
import math
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxws.config.fields import flat_fields
from jaxws.paper.configs import row_config
from jaxws.paper.names import RunName
from jaxws.paper.slots import cores
from jaxws.system.atomic import read_plain, write_atomically
from jaxws.system.json_text import parse_json
from jaxws.system.user_cache import user_cache

_FILE = "paper-costs.json"
# A step's time does not depend on these; sharing.every counts as never, always or now and then.
# How many steps an epoch has depends on data.split: searches are kinds of their own.
_SAME_STEP = ("data.pad", "data.path", "data.data_dir", "data.split_seed")
_GROUPS = ("model", "data", "sharing", "mesh")
_FIELDS = ("batch_size", "eval_batch_size", "accumulate", "optimizer.name")


class Cost(NamedTuple):
    """What a kind of run costs.

    Attributes:
      start: seconds until the first step, with programs that were compiled before.
      compile: seconds more where they were not.
      step: seconds.
      evaluation: seconds of an evaluation, and of the checkpoint after it.
      steps_per_epoch: number of steps.
      memory: bytes of the process, at most.
      checkpoint: bytes of one.
    """

    start: float
    compile: float
    step: float
    evaluation: float
    steps_per_epoch: int
    memory: float
    checkpoint: float

    def seconds(self, config: ConfigDict, epoch: float = 0.0) -> float:
        """How long a run takes, its programs being compiled.

        Args:
          config: of the run.
          epoch: that it has reached.

        Returns:
          Seconds of wall time.

        Example:
          >>> from jaxws.config.fields import base_config
          >>> Cost(5, 20, 0.1, 2, 100, 1e9, 1e6).seconds(base_config())
          2405.0
        """
        left = max(config.epochs - epoch, 0.0)
        evaluations = math.ceil(left / config.evaluate_every)
        return self.start + left * self.steps_per_epoch * self.step + evaluations * self.evaluation

    def disk(self, config: ConfigDict) -> float:
        """How much a finished run leaves.

        Args:
          config: of the run.

        Returns:
          Bytes.
        """
        return self.checkpoint * (config.checkpoint.keep + config.checkpoint.keep_best)


class Costs:
    """Measurements of this machine, which a file in the user's cache keeps."""

    def __init__(self, file: Path | None = None):
        """Reads the file, if there is one; one that is damaged counts as none.

        Args:
          file: None for that in the user's cache.
        """
        self._file, self._machine = file, machine()
        try:
            self._file = file or user_cache() / _FILE
            found = parse_json(read_plain(self._file))
        except (OSError, ValueError):
            found = {}
        self._all: dict[str, dict[str, Any]] = found if isinstance(found, dict) else {}

    def cost(self, config: ConfigDict) -> Cost | None:
        """What was measured for a run.

        Args:
          config: of the run.

        Returns:
          Its cost, or None.
        """
        return _parsed(self._entries().get(kind_of(config)))

    def keep(self, config: ConfigDict, cost: Cost) -> None:
        """Keeps a measurement; that it cannot be kept is no reason to stop.

        Args:
          config: of the run.
          cost: of it.
        """
        self._all[self._machine] = self._entries() | {kind_of(config): cost._asdict()}
        if self._file is None:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._file, json.dumps(self._all, indent=1, sort_keys=True) + "\n")
        except OSError:
            pass

    def learn(self, config: ConfigDict, seconds: float, memory: float) -> None:
        """Corrects a prediction by a whole run: its steps take what they must have taken.

        Args:
          config: of the run.
          seconds: of wall time, from its start to its end.
          memory: bytes of the process, at most.
        """
        if (cost := self.cost(config)) is None:
            return
        factor = (seconds - cost.start) / max(cost.seconds(config) - cost.start, 1e-9)
        if factor > 0:
            step, evaluation = cost.step * factor, cost.evaluation * factor
            memory = max(memory, cost.memory)
            self.keep(config, cost._replace(step=step, evaluation=evaluation, memory=memory))

    def _entries(self) -> dict[str, Any]:
        entries = self._all.get(self._machine)
        return entries if isinstance(entries, dict) else {}


def known_hours(name: RunName) -> float | None:
    """How long a run takes on this machine, alone in its slot, as far as it was measured.

    Args:
      name: of a run; of a row, for any of its runs.

    Returns:
      Hours; None where nothing was measured: ``paper run --dry_run`` does that.
    """
    config = row_config(name)
    cost = Costs().cost(config)
    return None if cost is None else cost.seconds(config) / 3600


def kind_of(config: ConfigDict) -> str:
    """What the time of a run's step depends on, apart from the machine.

    Args:
      config: of the run.

    Returns:
      Text, the same for runs that cost the same.

    Example:
      >>> kinds = [kind_of(row_config(f"small/{name}")) for name in (
      ...     "table4/digits/lc-ws10/seed0", "table5/digits/lc-ws100/seed1", "table4/digits/lc")]
      >>> kinds[0] == kinds[1], kinds[0] == kinds[2]
      (True, False)
    """
    fields = {
        key: value
        for key, value in flat_fields(config)
        if (key.partition(".")[0] in _GROUPS or key in _FIELDS) and key not in _SAME_STEP
    }
    fields.pop("model.init_from")
    fields["sharing.every"] = min(fields["sharing.every"], 2)
    fields["cores"] = len(cores())
    return json.dumps(fields, sort_keys=True)


def program_of(config: ConfigDict) -> str:
    """What the compiled programs of a run depend on.

    Args:
      config: of the run.

    Returns:
      Text, the same for runs of which only the first one has to compile.
    """
    return f"{kind_of(config)} {config.data.pad} {config.optimizer}"


def machine() -> str:
    """The name under which this machine's measurements are kept.

    Returns:
      One line.

    Example:
      >>> machine() == machine()
      True
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all devices")
    return f"{platform.node()}, {platform.machine()}, {os.cpu_count()} cores, {visible}"


def finished_after(seconds: Iterable[float], slots: int) -> float:
    """When the last of some runs ends, if the longest ones come first.

    Args:
      seconds: of each run.
      slots: how many run at once.

    Returns:
      Seconds of wall time.

    Example:
      >>> finished_after([1, 2, 3], slots=2)
      3.0
    """
    ends = [0.0] * slots
    for each in sorted(seconds, reverse=True):
        heapq.heappush(ends, heapq.heappop(ends) + each)
    return max(ends)


def _parsed(entry: Any) -> Cost | None:
    try:
        values: dict[str, Any] = {key: float(value) for key, value in entry.items()}
        cost = Cost(**values)
    except (TypeError, ValueError, AttributeError):
        return None
    fine: Sequence[bool] = [math.isfinite(value) and value >= 0 for value in cost]
    return cost._replace(steps_per_epoch=int(cost.steps_per_epoch)) if all(fine) else None
