"""Stopping a run in order: SIGTERM, Ctrl-C and the preemption notices of a pod.

The first signal is noted; the loop looks at it between steps. A second one ends the process at
once. Both work while the main thread is deep in a compilation, where Python's own handlers have to
wait: the signal's number arrives through a pipe, which a thread reads.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import ExitStack

import jax
from jax.experimental import multihost_utils

# Exit status of a run that stopped in order and goes on when its command is given again: the
# EX_TEMPFAIL of sysexits.h. After a second signal it is 128 plus the signal's number.
RESUMABLE = 75

_HANDLED = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
    """A run has stopped in order, before its end.

    Attributes:
      step: number of steps done.

    Example:
      >>> str(Stopped("SIGTERM", step=12, checkpoint=12))
      'stopped by SIGTERM after step 12; the checkpoint of step 12 is written'
      >>> print(Stopped("SIGINT", step=9, checkpoint=8))
      stopped by SIGINT after step 9; that step could not be saved, the last checkpoint is of step 8
    """

    def __init__(self, cause: str, step: int, checkpoint: int | None):
        """Says what happened.

        Args:
          cause: what asked for it.
          step: number of steps done.
          checkpoint: step of the newest checkpoint; None if there is none.
        """
        self.step = step
        last = "there is no checkpoint"
        if checkpoint is not None:
            last = f"the last checkpoint is of step {checkpoint}"
        saved = f"that step could not be saved, {last}"
        if checkpoint == step:
            saved = f"the checkpoint of step {step} is written"
        super().__init__(f"stopped by {cause} after step {step}; {saved}")


class Signals:
    """Takes SIGTERM and SIGINT while a run is in its hands.

    Where ``jax.distributed`` runs, a notice that reaches one process has to stop all of them at the
    same step. JAX's preemption service sees to that, and takes SIGTERM itself; SIGINT is passed on
    to it.

    Signals that the process was started to ignore stay ignored, and a thread that is not the main
    one cannot take signals: there, nothing changes.

    Attributes:
      received: name of the first signal, or None.

    Example:
      >>> with Signals() as signals:
      ...     signals.stop_before(step=0)
      False
    """

    def __init__(self) -> None:
        """Nothing is taken before the ``with`` statement."""
        self.received: str | None = None
        self._distributed = jax.distributed.is_initialized()
        self._taken: list[signal.Signals] = []
        self._give_back = ExitStack()

    def __enter__(self) -> Signals:
        """Takes the signals."""
        if threading.current_thread() is not threading.main_thread():
            return self
        mine = [signal.SIGINT] if self._distributed else _HANDLED
        self._taken = [each for each in mine if signal.getsignal(each) is not signal.SIG_IGN]
        read, write = os.pipe()
        os.set_blocking(write, False)
        watcher = threading.Thread(target=self._watch, args=[read], name="signals", daemon=True)
        undo = self._give_back.callback  # what is undone last comes first
        undo(os.close, read)
        undo(watcher.join)
        undo(os.close, write)  # ends the watcher
        undo(signal.set_wakeup_fd, signal.set_wakeup_fd(write, warn_on_full_buffer=False))
        for number in self._taken:
            undo(signal.signal, number, signal.signal(number, lambda *_: None))
        watcher.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Gives the signals back."""
        self._give_back.close()

    def stop_before(self, step: int) -> bool:
        """Whether to stop before a step; to be asked once before each one.

        Args:
          step: number of steps done.

        Returns:
          True if a signal has come; on a pod, once all processes have agreed on this step.
        """
        if self._distributed and multihost_utils.reached_preemption_sync_point(step):
            self.received = "a preemption notice"
            return True
        return self.stop_now

    @property
    def stop_now(self) -> bool:
        """Whether to stop where processes cannot agree, as within an evaluation; no on a pod."""
        return self.received is not None and not self._distributed

    def _watch(self, pipe: int) -> None:
        while number := os.read(pipe, 1):
            if number[0] in self._taken:
                self._take(signal.Signals(number[0]))

    def _take(self, number: signal.Signals) -> None:
        if self.received is not None:
            if sys.stdout.isatty():
                os.write(sys.stdout.fileno(), b"\x1b[?25h\n")  # the cursor that the bar has hidden
            os._exit(128 + number)
        self.received = number.name
        print(
            f"\n{number.name}: stopping after this step, with a checkpoint; a second signal stops"
            " at once.",
            file=sys.stderr,
            flush=True,
        )
        if self._distributed:
            os.kill(os.getpid(), signal.SIGTERM)
