"""One run in a process of its own, which goes on no longer than this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from jaxws.paper.jobs import Job, resume_arguments
from jaxws.paper.slots import Slot
from jaxws.paper.state import RunState
from jaxws.system.locks import lock
from jaxws.system.text import one_line

STOPPED_STATUS = os.EX_TEMPFAIL  # of train: stopped in order, with a checkpoint
DIVERGED_STATUS = 3  # of train
_TOLD_TO_END = (signal.SIGTERM, signal.SIGINT)
_CHILD = Path(__file__).with_name("child.py")
_LAST_LINES = 5
_TAIL_BYTES = 8192

Command = Callable[[Sequence[str]], list[str]]


def train_command(arguments: Sequence[str]) -> list[str]:
    """The command that trains.

    Args:
      arguments: of ``train``.

    Returns:
      A program by its path, and its arguments.
    """
    return [sys.executable, "-m", "jaxws", "train", *arguments]


def log_of(workdir: Path) -> Path:
    """Where a run's output goes: beside its directory, which belongs to the run alone.

    Args:
      workdir: of the run.

    Returns:
      A file.

    Example:
      >>> str(log_of(Path("runs/table5/cifar10/lc/seed0")))
      'runs/table5/cifar10/lc/seed0.log'
    """
    return workdir.with_name(f"{workdir.name}.log")


def claim(workdir: Path) -> BinaryIO | None:
    """Takes a run for this process and the one that it starts for it.

    The lock is on the run's log, which that process inherits: the run is taken for as long as
    either of them lives.

    Args:
      workdir: of the run.

    Returns:
      The log, open; None while another process has the run.

    Raises:
      OSError: the log cannot be written.
    """
    log = log_of(workdir)
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        return lock(log)
    except BlockingIOError:
        return None


def is_in_use(workdir: Path) -> bool:
    """Whether a process has a run's directory, such as one that was started by hand.

    Args:
      workdir: of the run.

    Returns:
      True or False; to be asked only where a run could not be started.
    """
    if not (workdir / "lock").exists():
        return False
    try:
        lock(workdir / "lock").close()
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


class Ended(NamedTuple):
    """How a run's process has ended.

    Attributes:
      status: its exit status; negative after a signal.
      seconds: wall time.
      memory: the most that it had of it, in bytes.
    """

    status: int
    seconds: float
    memory: int

    @property
    def was_stopped(self) -> bool:
        """Whether it was told to end, and can be started again."""
        told = [number for signal in _TOLD_TO_END for number in (-signal, 128 + signal)]
        return self.status in (STOPPED_STATUS, *told)

    @property
    def text(self) -> str:
        """For people: a status, or the signal that has ended it."""
        if self.status >= 0:
            return f"exit status {self.status}"
        name = signal.Signals(-self.status).name
        return f"{name}, maybe for want of memory" if name == "SIGKILL" else name


class Running:
    """A run's process.

    Attributes:
      job: what it does.
      slot: where.
      state: how far the run was when it was started.
    """

    def __init__(self, job: Job, slot: Slot, state: RunState, log: BinaryIO, command: Command):
        """Starts it.

        Args:
          job: what it does.
          slot: where.
          state: how far the run is.
          log: of :func:`claim`; closed when the process has ended.
          command: see :func:`train_command`.

        Raises:
          OSError: it cannot be started.
        """
        self.job, self.slot, self.state, self._log = job, slot, state, log
        extra = resume_arguments(state) if state.run is not None else ()
        train = command((*job.arguments, *extra, f"--workdir={job.workdir}"))
        cpus = ",".join(map(str, slot.cpus))
        log.seek(0, os.SEEK_END)
        log.write(f"$ {' '.join(train)}\n".encode(errors="backslashreplace"))
        self._begin, self._started = log.tell(), time.monotonic()
        self._ended: Ended | None = None
        self._memory = 0
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_CHILD), str(os.getpid()), cpus, *train],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **dict(slot.environment)},
            start_new_session=True,  # Ctrl-C in a terminal is for this process, which passes it on
        )

    @property
    def seconds(self) -> float:
        """For how long it has been running."""
        return time.monotonic() - self._started

    def ended(self) -> Ended | None:
        """How it has ended, or None while it runs."""
        if self._ended is None:
            number, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if number:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                unit = 1 if sys.platform == "darwin" else 1024
                memory = self._memory or usage.ru_maxrss * unit
                self._ended = Ended(self._process.returncode, self.seconds, memory)
            else:
                self._memory = _peak_memory(self._process.pid) or self._memory
        return self._ended

    def stop(self) -> None:
        """Tells it to end in order; a second time, at once."""
        self._process.send_signal(signal.SIGTERM)

    def last_lines(self) -> list[str]:
        """The end of what it has printed."""
        end = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(self._begin, end - _TAIL_BYTES))
        lines = self._log.read().decode(errors="replace").splitlines()
        return [one_line(line) for line in lines if line.strip()][-_LAST_LINES:]

    def close(self) -> None:
        """Lets go of the run."""
        self._log.close()


def _peak_memory(process: int) -> int:
    """Bytes that a process has had at most; 0 where Linux does not tell.

    What `os.wait4` says is never less than this process had when it started that one.
    """
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    lines = [line.split() for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0][1]) * 1024 if lines else 0


@contextmanager
def passing_signals(stop: Callable[[str], None]) -> Iterator[None]:
    """Takes SIGTERM and SIGINT; those that the process was started to ignore stay ignored.

    Args:
      stop: is told the name of each that comes.

    Yields:
      While they are taken.
    """
    given = {number: signal.getsignal(number) for number in _TOLD_TO_END}
    taken = [number for number, handler in given.items() if handler is not signal.SIG_IGN]
    for number in taken:
        signal.signal(number, lambda received, _: stop(signal.Signals(received).name))
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, given[number])
