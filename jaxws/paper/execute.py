"""Runs many jobs, some beside each other: what is done is left, what was stopped goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxws.paper.jobs import Job, job_state
from jaxws.paper.remaining import Remaining
from jaxws.paper.running import (
    DIVERGED_STATUS,
    STOPPED_STATUS,
    Command,
    Ended,
    Running,
    claim,
    is_in_use,
    log_of,
    passing_signals,
    train_command,
)
from jaxws.paper.slots import Slot
from jaxws.paper.state import DAMAGED, DIVERGED, DONE, OTHER, RunState, is_done
from jaxws.system.terminal import duration
from jaxws.system.text import say

_POLL_SECONDS = 0.1
_BUSY_SECONDS = 3.0  # between looks at a run that another process has


class Outcome(NamedTuple):
    """What has become of jobs; each is in one of these, by name.

    Attributes:
      done: finished, now or before.
      diverged: and not tried again.
      refused: could not be started; what is said of each says why.
      failed: ended before their end.
      stopped: not finished, or not begun, when a signal came.
    """

    done: tuple[str, ...]
    diverged: tuple[str, ...]
    refused: tuple[str, ...]
    failed: tuple[str, ...]
    stopped: tuple[str, ...]

    @property
    def status(self) -> int:
        """The exit status, with the meaning that it has for ``train``; 0 if all are done."""
        if self.stopped:
            return STOPPED_STATUS
        if self.failed or self.refused:
            return 2
        return DIVERGED_STATUS if self.diverged else 0


def run_jobs(
    jobs: Sequence[Job],
    slots: Sequence[Slot],
    *,
    retry: bool = False,
    seconds: Callable[[Job, RunState], float | None] = lambda job, state: None,
    ended: Callable[[Job, RunState, Ended], None] = lambda job, state, how: None,
    command: Command = train_command,
) -> Outcome:
    """Brings every job to its end, as far as that goes.

    Another process that works on the same directories takes its part: a run that it has is left to
    it. SIGTERM and Ctrl-C stop all runs in order, a second one at once; if this process is killed,
    its runs stop in order (on Linux). Whatever happens, the same call goes on from there.

    Args:
      jobs: what to do, each with a directory of its own.
      slots: where, see :func:`jaxws.paper.slots.make_slots`.
      retry: runs that have diverged go on from their last checkpoint.
      seconds: how much longer a job takes, given how far it is; None if that is not known.
      ended: is told how the process of a job has ended that finished its run, and how far the run
        was when it started.
      command: see :func:`jaxws.paper.running.train_command`.

    Returns:
      What has become of each.
    """
    queue = _Queue(jobs, slots, retry, seconds, ended, command)
    with passing_signals(queue.stop):
        queue.work()
    return queue.outcome()


class _Queue:
    """Jobs that wait, that run, and that have ended."""

    def __init__(
        self,
        jobs: Sequence[Job],
        slots: Sequence[Slot],
        retry: bool,
        seconds: Callable[[Job, RunState], float | None],
        ended: Callable[[Job, RunState, Ended], None],
        command: Command,
    ):
        self._jobs, self._retry, self._command = jobs, retry, command
        self._ended = ended
        self._free, self._running = list(slots), list[Running]()
        self._results: dict[str, str] = {}  # name of a field of Outcome, by name of the job
        self._not_before: dict[str, float] = {}  # of jobs that another process has
        self._signal: str | None = None
        states = {job.name: job_state(job) for job in jobs}
        for job in jobs:
            self._look(job, states[job.name])
        if before := len(self._results):
            done = sum(result == "done" for result in self._results.values())
            others = f", {before - done} cannot be done" if done < before else ""
            say(f"{done} of {len(jobs)} runs are done already{others}")
        expected = {job.name: seconds(job, states[job.name]) for job in jobs}
        self._remaining = Remaining(expected, len(slots))
        waiting = [job for job in jobs if job.name not in self._results]
        # Long ones first, so that slots come to their end together.
        self._waiting = sorted(waiting, key=lambda job: -(expected[job.name] or 0.0))

    def work(self) -> None:
        """Until nothing is left to be done."""
        while self._running or (self._waiting and not self._signal):
            for running in list(self._running):
                if how := running.ended():
                    self._take_back(running, how)
            while self._free and not self._signal and self._start_next():
                pass
            if self._running or self._waiting:
                time.sleep(_POLL_SECONDS)

    def stop(self, name: str) -> None:
        """Takes a signal."""
        if self._signal is None:
            what = f"stopping ({len(self._running)} running), with checkpoints"
            say(f"\n{name}: {what}; a second signal stops at once.", error=True)
        self._signal = self._signal or name
        for running in self._running:
            running.stop()

    def outcome(self) -> Outcome:
        """What has become of each job."""
        results = [(job.name, self._results.get(job.name, "stopped")) for job in self._jobs]
        fields = Outcome._fields
        return Outcome(*(tuple(n for n, result in results if result == f) for f in fields))

    def _look(self, job: Job, state: RunState) -> bool:
        """Whether a job is to be started; else says why not, unless it is done."""
        if state.kind == DONE:
            self._results[job.name] = "done"
        elif state.kind == DIVERGED and not self._retry:
            self._end(job, "diverged", f"has diverged ({state.note}); --retry tries it again")
        elif state.kind in (OTHER, DAMAGED):
            self._end(job, "refused", f"is left alone: {job.workdir}: {state.note}")
        elif job.after and not self._may_come(job.after):
            self._end(
                job,
                "refused",
                f"starts from {job.after}, which is not done: choose that run as well",
            )
        return job.name not in self._results

    def _may_come(self, after: Path) -> bool:
        """Whether a run that another one starts from is done, or still may be."""
        own = [job for job in self._jobs if job.workdir == after]
        if own:
            return self._results.get(own[0].name, "done") == "done"
        return is_done(after)

    def _start_next(self) -> bool:
        """Starts the first job that can be started; False if there is none."""
        for job in list(self._waiting):
            if time.monotonic() < self._not_before.get(job.name, 0.0):
                continue
            if job.after and not is_done(job.after):
                if not self._may_come(job.after):
                    self._waiting.remove(job)
                    self._look(job, job_state(job))
                continue
            if self._start(job):
                return True
        return False

    def _start(self, job: Job) -> bool:
        """Starts a job in a free slot, if it is nobody else's and still to be done."""
        try:
            is_known = job.name in self._not_before
            log = None if is_known and is_in_use(job.workdir) else claim(job.workdir)
            if log is None:
                self._leave(job)
                return False
            self._waiting.remove(job)
            state = job_state(job)  # another process may have had it until now
            if not self._look(job, state):
                log.close()
                if self._results[job.name] == "done":
                    say(f"{self._count()} {job.name}: done by another process")
                return False
            running = Running(job, self._free[0], state, log, self._command)
        except OSError as error:
            self._waiting = [each for each in self._waiting if each is not job]
            self._end(job, "failed", f"cannot be started: {error}")
            return False
        self._free.pop(0)
        self._running.append(running)
        at = f" at epoch {state.epoch:g} of {state.epochs}" if state.epoch else ""
        say(f"{self._count()} {job.name}: {'goes on' if state.run else 'started'}{at}")
        return True

    def _leave(self, job: Job) -> None:
        if job.name not in self._not_before:
            say(f"{self._count()} {job.name}: another process is at it")
        self._not_before[job.name] = time.monotonic() + _BUSY_SECONDS

    def _take_back(self, running: Running, how: Ended) -> None:
        job = running.job
        state = job_state(job)
        if how.status == 0 and state.kind == DONE:
            self._ended(job, running.state, how)
            top1 = state.run.of_kind("epoch")[-1].get("test_top1") if state.run else None
            score = "" if top1 is None else f", {100 * top1:.2f} % right"
            self._remaining.ended(job.name, how.seconds)
            going = {r.job.name: r.seconds for r in self._running if r is not running}
            left = self._remaining.text([each.name for each in self._waiting], going)
            self._end(job, "done", f"done{score}, in {duration(how.seconds)}; {left}")
        elif how.status == DIVERGED_STATUS:
            self._end(job, "diverged", f"has diverged: {state.note}")
        elif how.was_stopped:
            self._end(job, "stopped", f"stopped at epoch {state.epoch:g} of {state.epochs}")
        elif is_in_use(job.workdir):
            self._waiting.append(job)
            self._leave(job)
        else:
            self._end(job, "failed", f"failed ({how.text}); {log_of(job.workdir)}:")
            for line in running.last_lines():
                say(f"    {line}")
        running.close()
        self._running.remove(running)
        self._free.insert(0, running.slot)

    def _end(self, job: Job, result: str, line: str) -> None:
        self._results[job.name] = result
        say(f"{self._count()} {job.name}: {line}", error=result in ("refused", "failed"))

    def _count(self) -> str:
        return f"[{len(self._results)}/{len(self._jobs)}]"
