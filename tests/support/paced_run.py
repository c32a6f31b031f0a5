"""Stands in for a run's process where time is measured: its steps go by a clock of the test."""

import json
from typing import NamedTuple

from jaxws.paper.running import Ended

STEPS, CHECKPOINT, MEMORY = 4, 1000, 5_000_000  # steps of an epoch; bytes


class Pace(NamedTuple):
    """Seconds until the first step, more of them without a checkpoint, and of the rest."""

    start: float
    compile: float
    step: float
    evaluation: float
    ending: float


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self):
        self.now = 0.0

    def sleep(self, seconds):
        self.now += seconds


class PacedRun:
    """What :class:`jaxws.paper.running.Running` is for a run of a pace that a clock drives."""

    def __init__(self, pace, clock, job, log):
        self._pace, self._clock, self._log = pace, clock, log
        self._workdir, self._begun, self._stopping = job.workdir, clock.now, None
        checkpoints = self._workdir / "checkpoints"
        self._done = max((int(path.name) for path in checkpoints.glob("*")), default=0)
        checkpoints.mkdir(parents=True, exist_ok=True)
        facts = {"data": {"train_images": 24, "test_images": 12}, "stretches": []}
        (self._workdir / "provenance.json").write_text(json.dumps(facts))
        self._next = pace.start + (0 if self._done else pace.compile) + pace.step

    @property
    def seconds(self):
        now = self._clock.now - self._begun
        with (self._workdir / "metrics.jsonl").open("a") as metrics:
            while self._stopping is None and self._next <= now:
                self._step(metrics)
        return now

    def _step(self, metrics):
        self._done += 1
        metrics.write(json.dumps({"kind": "train", "step": self._done}) + "\n")
        self._next += self._pace.step
        if self._done % STEPS == 0:
            self._next += self._pace.evaluation
            record = {"kind": "epoch", "step": self._done, "epoch": self._done / STEPS}
            metrics.write(json.dumps(record | {"step_seconds": self._pace.step}) + "\n")

    def stop(self):
        self._stopping = self.seconds

    def ended(self):
        if self._stopping is None or self.seconds < self._stopping + self._pace.ending:
            return None
        checkpoint = self._workdir / "checkpoints" / str(self._done)
        checkpoint.mkdir(exist_ok=True)
        (checkpoint / "state").write_bytes(b"0" * CHECKPOINT)
        return Ended(75, self.seconds, MEMORY)

    def close(self):
        self._log.close()
