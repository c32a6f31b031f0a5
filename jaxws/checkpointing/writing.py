"""One checkpoint while it is written: arrays by every process, what makes it whole by process 0.

Each process copies its arrays and writes them in a thread. The threads meet twice: when all arrays
are written or one of them has failed, and when process 0 has given the directory its name or could
not. So a failure of one is the failure of all, and nobody waits for arrays that will never come.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import orbax.checkpoint as ocp
from etils import epath

from jaxws.checkpointing.exchange import Exchange
from jaxws.checkpointing.failures import Failure, explain
from jaxws.checkpointing.plain_path import plain_path
from jaxws.checkpointing.unfinished import STATE
from jaxws.parallel import processes

_LONGEST_S = 600  # that arrays may take


class Outcome(NamedTuple):
    """What became of a checkpoint.

    Attributes:
      written: whether it has its name.
      failure: what kept it from that, or went wrong after it.
    """

    written: bool
    failure: Failure | None = None


class Writing:
    """A checkpoint that is being written."""

    def __init__(
        self,
        directory: Path,
        state: Any,
        finish: Callable[[Callable[[], None]], Outcome],
        exchange: Exchange,
    ):
        """Copies the state, of which nothing is needed afterwards, and starts to write.

        Args:
          directory: of :func:`jaxws.checkpointing.unfinished.make_unfinished`.
          state: a pytree of arrays, of this process or of all.
          finish: called in process 0 when all arrays are written, with a function that merges what
            processes have written; makes a checkpoint of the directory.
          exchange: how process 0 gets what others have written.
        """
        self._handler, self._finish = ocp.StandardCheckpointHandler(), finish
        self._directory, self._exchange = directory, exchange
        self._opened = ExitStack()
        self._outcome = Outcome(False, Failure("its thread has ended", "see to that"))
        commits: Iterable[Any] = ()
        failure = None
        try:
            exchange.begin(directory)
            plain = self._opened.enter_context(plain_path(directory))
            self._state_path = epath.Path(plain / STATE)
            commits = self._copy(state)
        except Exception as error:  # Orbax has no base class for what can go wrong
            failure = explain(error)
        self._thread = threading.Thread(
            target=self._write, args=(commits, failure), name="checkpoint"
        )
        self._thread.start()

    def outcome(self) -> Outcome:
        """Waits until the checkpoint is written or has failed to be; the same in all processes."""
        self._thread.join()
        return self._outcome

    def _copy(self, state: Any) -> Iterable[Any]:
        """Commits to wait for. In a thread, as this one may have an event loop of its own."""
        copying = self._handler.async_save(self._state_path, args=ocp.args.StandardSave(state))
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, copying).result() or ()

    def _write(self, commits: Iterable[Any], failure: Failure | None) -> None:
        try:
            for commit in commits:
                commit.result(timeout=_LONGEST_S)
            if failure is None:
                self._exchange.give(self._directory)
        except Exception as error:
            failure = explain(error)
        try:
            self._outcome = self._agree(failure)
        except Exception as error:  # the others cannot be reached
            self._outcome = Outcome(False, explain(error))
        with suppress(OSError):  # where the directory's server has gone
            self._opened.close()
        self._handler.close()

    def _agree(self, failure: Failure | None) -> Outcome:
        answers = processes.gather(json.dumps(failure), "checkpoint's arrays")
        if failed := first_failure(answers):
            return Outcome(False, failed)
        told = None
        if processes.is_first():
            told = json.dumps(self._finish(lambda: self._handler.finalize(self._state_path)))
        written, failed = json.loads(processes.broadcast(told, "checkpoint's end"))
        return Outcome(written, failed and Failure(*failed))


def first_failure(answers: Iterable[str]) -> Failure | None:
    """The failure of the process of the lowest number that has one.

    Args:
      answers: of each process, a failure or None as JSON.

    Returns:
      The failure, which names the process if there are several; None if there is none.

    Example:
      >>> first_failure(["null", '["No space left on device", "make room"]'])
      Failure(cause='process 1: No space left on device', advice='make room')
    """
    failures = [json.loads(answer) for answer in answers]
    for number, failure in enumerate(failures):
        if failure is not None:
            cause, advice = failure
            return Failure(f"process {number}: {cause}" if len(failures) > 1 else cause, advice)
    return None
