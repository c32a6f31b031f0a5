"""A short measurement of what runs cost: real runs, in a directory that is removed again.

As many go on at once as there are slots, since cores share caches and memory. Each is stopped in
order after two epochs, or after some seconds where an epoch is long; then it is started once more,
to see how long a start takes whose programs are compiled.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxws.paper.costs import Cost
from jaxws.paper.jobs import Job
from jaxws.paper.running import Command, Ended, Running, claim, train_command
from jaxws.paper.slots import Slot, uses_one_core
from jaxws.paper.state import RunState
from jaxws.records import provenance_file
from jaxws.records.metrics_file import MetricsFile

_SECONDS = 20.0  # from the first step on, if two epochs take longer
_LEAST_STEPS = 3
_EPOCHS = 3  # the first has programs to compile
_POLL_SECONDS = 0.05
_EVALUATION = 1 / 3  # of a step for as many images: the way forward alone


class _Sight(NamedTuple):
    """When a record was first seen."""

    seconds: float
    record: dict[str, Any]


class _Measurement:
    """One run that is being measured, from its first start to the end of its second."""

    def __init__(self, job: Job, slot: Slot, workdir: Path, command: Command):
        every = () if uses_one_core(job.config) else ("--config.log_every=1",)
        # Where weights come from makes no step longer, and they may not be there yet.
        own = (each for each in job.arguments if not each.startswith("--config.model.init_from"))
        arguments = (*own, *every, "--config.evaluate_every=1")
        self.job = job
        self._timed = job._replace(workdir=workdir, arguments=arguments, after=None)
        self._slot, self._command = slot, command
        self._first: tuple[list[_Sight], float] | None = None
        self._stopping: float | None = None
        self._memory = 0
        self._start()

    def _start(self) -> None:
        log = claim(self._timed.workdir)
        assert log is not None  # of a new directory
        self._sights: list[_Sight] = []
        self._known = len(self._records())
        self._running = Running(self._timed, self._slot, RunState("missing"), log, self._command)
        self._stopping = None

    def look(self) -> Cost | None:
        """Goes on measuring; the cost, once that is known.

        Raises:
          ValueError: the run has failed.
        """
        now, records = self._running.seconds, self._records()[self._known :]
        self._sights += [_Sight(now, record) for record in records[len(self._sights) :]]
        if self._stopping is None and self._has_seen_enough():
            self._running.stop()
            self._stopping = now
        if (ended := self._running.ended()) is None:
            return None
        if not self._sights or not (ended.was_stopped or ended.status == 0):
            last = (self._running.last_lines() or ["it says nothing"])[-1]
            raise ValueError(f"{self.job.name} cannot be measured: {last}")
        self._memory = max(self._memory, ended.memory)
        self._running.close()
        return self._next(ended)

    def close(self) -> None:
        """Stops it, where it is not over."""
        while self._running.ended() is None:
            self._running.stop()
            time.sleep(_POLL_SECONDS)
        self._running.close()

    def _next(self, ended: Ended) -> Cost | None:
        if self._first is None:
            self._first = (self._sights, ended.seconds - (self._stopping or ended.seconds))
            if uses_one_core(self.job.config):  # elsewhere a start is little of a run
                self._start()
                return None
        return self._cost()

    def _has_seen_enough(self) -> bool:
        steps = [sight for sight in self._sights if sight.record["kind"] == "train"]
        if self._first is not None:
            return bool(steps)
        epochs = sum(sight.record["kind"] == "epoch" for sight in self._sights)
        waited = self._running.seconds - steps[0].seconds if steps else 0.0
        return epochs >= _EPOCHS or (waited > _SECONDS and len(steps) >= _LEAST_STEPS)

    def _cost(self) -> Cost:
        assert self._first is not None
        sights, ending = self._first
        step = _step_seconds(sights)
        first, *_ = [sight for sight in sights if sight.record["kind"] == "train"]
        cold = max(first.seconds - first.record["step"] * step, 0.0)
        warm = cold
        if self._sights is not sights:
            again = next(s for s in self._sights if s.record["kind"] == "train")
            resumed = sights[-1].record["step"]
            warm = max(again.seconds - max(again.record["step"] - resumed, 0) * step, 0.0)
        steps_per_epoch, evaluation = self._epochs(sights, step)
        checkpoint = _checkpoint_bytes(self._timed.workdir)
        return Cost(
            min(warm, cold) + ending, max(cold - warm, 0.0), step, evaluation, steps_per_epoch,
            self._memory, checkpoint,
        )  # fmt: skip

    def _epochs(self, sights: list[_Sight], step: float) -> tuple[int, float]:
        """Steps in an epoch, and seconds of an evaluation with its checkpoint."""
        ends = [sight for sight in sights if sight.record["kind"] == "epoch"]
        data = provenance_file.read(self._timed.workdir)["data"]
        config = self.job.config
        if len(ends) < 2:
            images = config.batch_size // config.data.n_reps
            steps = math.ceil(data["train_images"] / images)
            return steps, _EVALUATION * step * data["test_images"] / config.batch_size
        a, b = ends[-2:]
        between = b.record["step"] - a.record["step"]
        return between, max(b.seconds - a.seconds - between * step, 0.0)

    def _records(self) -> list[dict[str, Any]]:
        return list(MetricsFile(self._timed.workdir / "metrics.jsonl").records())


def measure(
    jobs: Sequence[Job],
    slots: Sequence[Slot],
    found: Callable[[Job, Cost], None],
    command: Command = train_command,
) -> None:
    """Measures jobs, each of another kind.

    Args:
      jobs: what to measure.
      slots: where.
      found: is told the cost of each.
      command: see :func:`jaxws.paper.running.train_command`.

    Raises:
      ValueError: a run has failed.
    """
    waiting, free, going = list(jobs), list(slots), list[tuple[_Measurement, Slot]]()
    with tempfile.TemporaryDirectory(prefix="jaxws-measure-") as directory:
        try:
            while waiting or going:
                while waiting and free:
                    job, slot = waiting.pop(0), free.pop(0)
                    workdir = Path(directory) / str(len(waiting))
                    going.append((_Measurement(job, slot, workdir, command), slot))
                for each, slot in list(going):
                    if (cost := each.look()) is not None:
                        found(each.job, cost)
                        going.remove((each, slot))
                        free.append(slot)
                time.sleep(_POLL_SECONDS)
        finally:
            for each, _ in going:
                each.close()


def _step_seconds(sights: list[_Sight]) -> float:
    """Of steps that follow one another: as the run's last epoch says, or between its records."""
    said = [s.record.get("step_seconds") for s in sights if s.record["kind"] == "epoch"]
    known = [value for value in said if value is not None]
    if known:
        return known[-1]
    first, *_, last = [sight for sight in sights if sight.record["kind"] == "train"]
    return (last.seconds - first.seconds) / (last.record["step"] - first.record["step"])


def _checkpoint_bytes(workdir: Path) -> float:
    steps = [path for path in (workdir / "checkpoints").glob("*") if path.name.isdecimal()]
    sizes = [
        os.lstat(os.path.join(root, name)).st_size
        for path in steps
        for root, _, files in os.walk(path)
        for name in files
    ]
    return sum(sizes) / len(steps) if steps else 0.0
