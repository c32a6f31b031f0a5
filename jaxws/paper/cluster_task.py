"""What a task of a cluster's job array does: a command that is stopped in order and goes on later.

``submitit`` takes the signal that SLURM sends before a task's time is over (SIGUSR2): it asks
:meth:`Task.checkpoint` what is left to do, and puts the task back into the queue. What is left is
the same command, since ``paper run`` goes on where it was stopped. SIGTERM, which comes where a
task is cancelled or has to make room, stops the command alike. Whether the task comes back then is
for SLURM to say, which it does as it kills the task, and not where that ends by itself before.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from submitit.helpers import Checkpointable, DelayedSubmission

# Seconds between SLURM's signal and the end of a task's time, and how many of them a command has to
# write its checkpoints; the rest is for the way back into the queue.
NOTICE, TO_STOP = 120, 90
_POLL_SECONDS = 0.01


class Task(Checkpointable):
    """A command in a process of its own, to be called by ``submitit``.

    Attributes:
      command: a program and its arguments.

    Example:
      >>> Task(["true"])()
      >>> Task(["sh", "-c", "exit 3"])()
      Traceback (most recent call last):
      SystemExit: 3
    """

    def __init__(self, command: Sequence[str]):
        """Starts nothing.

        Args:
          command: a program and its arguments.
        """
        self.command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._starter: threading.Thread | None = None
        self._failure: OSError | None = None
        self._is_asked = self._is_told = False

    def __call__(self) -> None:
        """Runs the command.

        Raises:
          SystemExit: it has not ended with status 0.
          OSError: it cannot be started.
        """
        before = signal.signal(signal.SIGTERM, lambda *_: self._stop())
        # In a thread, since signals interrupt this one: they can wait until there is a process.
        self._starter = threading.Thread(target=self._start)
        self._starter.start()
        self._starter.join()
        if self._process is None:
            assert self._failure is not None
            raise self._failure
        if self._is_asked:  # before the thread was there
            self._stop()
        # Popen.wait holds a lock, which checkpoint() would wait for in the midst of it.
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        status = self._process.wait()
        if self._is_told and status == os.EX_TEMPFAIL:
            signal.pause()
        signal.signal(signal.SIGTERM, before)
        if status:
            sys.exit(status if status > 0 else 128 - status)

    def _start(self) -> None:
        # Some clusters send signals to all processes of a task. Those of the command inherit what
        # is blocked; unblocked, this signal would kill them.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        try:
            self._process = subprocess.Popen(self.command)
        except OSError as error:
            self._failure = error

    def checkpoint(self) -> DelayedSubmission:
        """Stops the command in order.

        Returns:
          What is left to do.
        """
        self._stop()
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(TO_STOP)
        return DelayedSubmission(Task(self.command))

    def _stop(self) -> None:
        """Tells the command to stop; only once, as a second signal would end it at once."""
        self._is_asked = True
        while self._starter is not None and self._starter.is_alive():
            time.sleep(_POLL_SECONDS)
        if self._process is not None and not self._is_told:
            self._is_told = True
            self._process.send_signal(signal.SIGTERM)
