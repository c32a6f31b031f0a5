"""Stopping a run in order: SIGTERM, which is a pod's preemption notice too, and Ctrl-C.

The first signal is noted; the loop looks at it between steps. A second one ends the process at
once, but for a SIGTERM right after another: schedulers tell a group of processes and the one that
has started it, which passes it on. Both work while the main thread is deep in a compilation, where
Python's own handlers have to wait: the signal's number arrives through a pipe, which a thread
reads.

Where several processes share a run, a signal to one stops all of them before the same step. None of
them waits for the others at each step to find out. Only once there was a signal, each tells how far
it has got, and all go on to where the foremost is.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import ExitStack

from jaxws.parallel import processes
from jaxws.system.text import say

# Exit status of a run that stopped in order and goes on when its command is given again: the
# EX_TEMPFAIL of sysexits.h. After a second signal it is 128 plus the signal's number.
RESUMABLE = 75

_HANDLED = (signal.SIGTERM, signal.SIGINT)
_SAME_SECONDS = 1.0  # in which a second SIGTERM is the first one, come by another way
_STOPPING = "stopping after this step, with a checkpoint"


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

    Signals that the process was started to ignore stay ignored, and a thread that is not the main
    one cannot take signals: there, nothing changes.

    Attributes:
      received: what has stopped the run, or None: the name of the first signal, and of the process
        that got it where there are several.

    Example:
      >>> with Signals() as signals:
      ...     signals.stop_before_next()
      False
    """

    def __init__(self) -> None:
        """Nothing is taken before the ``with`` statement."""
        self.received: str | None = None
        self._is_alone = processes.count() == 1
        self._notice = processes.Notice("stop")
        self._lock = threading.Lock()
        self._asked = 0  # how often all processes have asked whether to stop
        self._stop_at: int | None = None  # the number of the question to stop at
        self._came: float | None = None  # when this process got a signal for the first time
        self._told, self._agreed = False, threading.Event()
        self._taken: list[signal.Signals] = []
        self._give_back = ExitStack()

    def __enter__(self) -> Signals:
        """Takes the signals."""
        if not self._is_alone:
            self._give_back.callback(self._notice.post, "")  # ends the thread
            threading.Thread(target=self._agree, name="stop", daemon=True).start()
        if threading.current_thread() is not threading.main_thread():
            return self
        self._taken = [each for each in _HANDLED if signal.getsignal(each) is not signal.SIG_IGN]
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

    def stop_before_next(self) -> bool:
        """Whether to stop before the next step, or batch of an evaluation.

        Processes that share a run ask equally often, at the same places.

        Returns:
          True if a signal has come, in all processes at the same place.
        """
        if self._is_alone:
            return self.stop_now
        with self._lock:
            self._asked += 1
            asked, told = self._asked, self._told
        if not told:
            return False
        self._agreed.wait()
        return asked == self._stop_at

    @property
    def stop_now(self) -> bool:
        """Whether to stop where processes cannot agree, as while one waits for its input."""
        return self._is_alone and self.received is not None

    def _agree(self) -> None:
        """Waits for a signal to any process, and finds where all can stop."""
        if not (cause := self._notice.wait()):
            return
        with self._lock:
            self._told, asked = True, self._asked
        if self.received is None and processes.is_first():
            say(f"{cause}: {_STOPPING}", error=True)
        self._stop_at = 1 + max(map(int, processes.gather(str(asked), "stop at")))
        self.received = cause
        self._agreed.set()

    def _watch(self, pipe: int) -> None:
        while number := os.read(pipe, 1):
            if number[0] in self._taken:
                self._take(signal.Signals(number[0]))

    def _take(self, number: signal.Signals) -> None:
        now, first = time.monotonic(), self._came
        if first is not None:
            if number == signal.SIGTERM and now - first < _SAME_SECONDS:
                return
            if sys.stdout.isatty():
                os.write(sys.stdout.fileno(), b"\x1b[?25h\n")  # the cursor that the bar has hidden
            os._exit(128 + number)
        self._came = now
        if self.received is not None:  # another process was told before, and all of them are
            return
        self.received = number.name
        say(f"\n{number.name}: {_STOPPING}; a second signal stops at once.", error=True)
        self._notice.post(f"{number.name} to process {processes.index()}")
