"""Checkpoints: written in the background, whole or not at all, and checked when read.

Checksums of a checkpoint's files are part of it: they are written before its directory is renamed
to its final name. A directory without them was never whole. One that no longer agrees with them is
set aside, and the newest good one is used instead.

Where several processes share a run, every one of them writes and reads the arrays that it holds.
Process 0 decides all else and tells the others; its word, not the directory, says what there is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax

from jaxws.checkpointing.checksums import write_checksums
from jaxws.checkpointing.complete import check_complete
from jaxws.checkpointing.decisions import all_succeed, decided
from jaxws.checkpointing.directory import latest_valid, quarantine, record_latest, steps_in
from jaxws.checkpointing.exchange import Exchange, OneFileSystem
from jaxws.checkpointing.failures import Failure, explain
from jaxws.checkpointing.metadata import check_compatible, read_metadata, write_metadata
from jaxws.checkpointing.plain_path import plain_path
from jaxws.checkpointing.reading import read_state
from jaxws.checkpointing.retention import obsolete
from jaxws.checkpointing.silence import silence_orbax
from jaxws.checkpointing.unfinished import make_unfinished, remove_unfinished
from jaxws.checkpointing.writing import Outcome, Writing
from jaxws.parallel import processes
from jaxws.system.text import say

Report = Callable[[int, str, str], None]


class State(Protocol):
    """A pytree of arrays that knows its step."""

    @property
    def step(self) -> jax.Array:
        """Number of steps done."""


class Restored(NamedTuple):
    """A checkpoint.

    Attributes:
      state: the train state.
      metadata: what it says about itself; see :mod:`jaxws.checkpointing.metadata`.
    """

    state: Any
    metadata: dict[str, Any]


class Checkpoints:
    """The checkpoints of a run. Saving is asynchronous and atomic; damage is found by checksums.

    Example:
      >>> import contextlib, tempfile, jax.numpy as jnp
      >>> from flax.training.train_state import TrainState
      >>> from jaxws.checkpointing.metadata import make_metadata
      >>> state = TrainState(jnp.asarray(7), None, {"w": jnp.ones(2)}, None, {})
      >>> with contextlib.closing(Checkpoints(Path(tempfile.mkdtemp()), 1)) as checkpoints:
      ...     checkpoints.save(state, make_metadata(state))
      ...     checkpoints.wait()
      ...     int(checkpoints.restore(state).state.step)
      7
    """

    def __init__(
        self,
        path: Path,
        keep: int,
        *,
        scores: Callable[[], Mapping[int, float]] = dict,
        report: Report | None = None,
        exchange: Exchange | None = None,
    ):
        """Opens a directory of checkpoints.

        Args:
          path: the directory; made if missing.
          keep: number of checkpoints to keep, the newest ones.
          scores: gives scores by step; the newest of those with the highest is kept too.
          report: is told of what goes wrong and is survived: step, name and one line about it; by
            default, the line goes to stderr.
          exchange: how files get from process to process; None if they share a file system.

        Raises:
          ValueError: there is something else of this name, or Orbax cannot write to such a path.
          OSError: it cannot be made.
        """
        self._path, self._keep, self._scores = path, keep, scores
        self._report = report or _print
        self._step = 0
        self._writing: Writing | None = None
        self._failure: Failure | None = None
        self._newest: int | None = None  # that this object knows of
        decided(self._make_directory)
        self._exchange = exchange or OneFileSystem()
        self._exchange.check(path)
        self._silence = contextlib.ExitStack()
        self._silence.enter_context(silence_orbax())

    def _make_directory(self) -> None:
        if os.path.lexists(self._path) and not self._path.is_dir():
            raise ValueError(
                f"{self._path} is no directory: checkpoints of the run should lie there. Nothing"
                " was changed. Bring it back, or give another --workdir."
            )
        self._path.mkdir(parents=True, exist_ok=True)
        with plain_path(self._path):  # where Orbax cannot write is told now
            remove_unfinished(self._path)

    def close(self) -> None:
        """Finishes what is being written."""
        try:
            self.wait()
        finally:
            self._silence.close()

    def latest_step(self) -> int | None:
        """Returns the step of the newest complete checkpoint, or None; called by all processes."""
        return decided(lambda: max(steps_in(self._path), default=None))

    @property
    def advice(self) -> str:
        """What helps against what has kept the last checkpoint from being written."""
        return self._failure.advice if self._failure else "see that it can be written"

    def save(self, state: State, metadata: Mapping[str, Any]) -> None:
        """Starts writing a checkpoint, unless the step's is there already.

        What goes wrong now or in the background is reported, here or by a later call.

        Args:
          state: what to write.
          metadata: of :func:`jaxws.checkpointing.metadata.make_metadata`; that of process 0 is
            written.
        """
        self.wait()
        self._step = int(state.step)
        scores = dict(self._scores()) if processes.is_first() else {}
        unfinished, failure = decided(self._begin)
        if failure is not None:
            self._ended(Outcome(False, Failure(*failure)))
        elif unfinished is not None:
            directory = self._path / unfinished
            finish = partial(self._finish, directory, metadata, scores)
            self._writing = Writing(directory, state, finish, self._exchange)

    def _begin(self) -> tuple[str | None, Failure | None]:
        """The directory to write into, None if the checkpoint is there, or why there is none."""
        try:
            if self._step in steps_in(self._path):
                return None, None
            remove_unfinished(self._path)  # what a straggler of an earlier save has put back
            return make_unfinished(self._path, self._step), None
        except Exception as error:
            return None, explain(error)

    def _finish(
        self,
        directory: Path,
        metadata: Mapping[str, Any],
        scores: Mapping[int, float],
        merge: Callable[[], None],
    ) -> Outcome:
        """Makes a checkpoint of what all processes have written, and removes older ones."""
        try:
            self._exchange.collect(directory)
            merge()
            write_metadata(directory, metadata)
            check_complete(directory, metadata.get("arrays", {}))
            write_checksums(directory)
            directory.rename(self._path / str(self._step))
        except Exception as error:
            return Outcome(False, explain(error))
        record_latest(self._path, self._step)
        try:
            for step in obsolete(steps_in(self._path), self._keep, scores):
                shutil.rmtree(self._path / str(step))
        except Exception as error:
            return Outcome(True, explain(error))
        return Outcome(True)

    def wait(self) -> None:
        """Blocks until everything is written or has failed to be."""
        if self._writing is not None:
            outcome, self._writing = self._writing.outcome(), None
            self._ended(outcome)

    def _ended(self, outcome: Outcome) -> None:
        """Notes what became of a checkpoint; process 0 reports what went wrong."""
        step, (written, failure) = self._step, outcome
        self._failure = None if written else failure
        if written:
            self._newest = step
        if failure is None or not processes.is_first():
            return
        if written:
            event = "old checkpoint not removed"
            line = f"a checkpoint older than that of step {step} could not be removed"
            self._report(step, event, f"{line} ({failure.cause}): that of step {step} is written")
            return
        remove_unfinished(self._path)
        latest = self._latest_known()
        last = "there is none yet" if latest is None else f"the last one is of step {latest}"
        self._report(
            step,
            "checkpoint not written",
            f"the checkpoint of step {step} could not be written ({failure.cause}): {last}",
        )

    def restore(self, like: Any, identity: str | None = None) -> Restored | None:
        """Reads the newest good checkpoint; damaged ones that are newer are set aside.

        It may have been written on other devices and by other processes.

        Args:
          like: a state of the same structure, shapes and dtypes, or its shapes. Arrays get the
            shardings of ``like``, and lie on this process's first device where it has none.
          identity: of the run, see :func:`jaxws.config.identity.to_json`; None for any.

        Returns:
          The checkpoint, or None if none has ever been written.

        Raises:
          ValueError: there were checkpoints and none is good, or the good one is of another run or
            network. Nothing was changed then.
        """
        self.wait()
        step = decided(partial(self._find, like, identity))
        if step is None:
            return None
        self._newest = step
        directory = self._path / str(step)
        decided(partial(self._exchange.offer, directory))
        return all_succeed(partial(self._read, directory, like))

    def _read(self, directory: Path, like: Any) -> Restored:
        """The part of a checkpoint that this process holds."""
        try:
            self._exchange.take(directory)
        except OSError as error:
            raise ValueError(str(error)) from error
        return Restored(read_state(directory, like), read_metadata(directory))

    def _find(self, like: Any, identity: str | None) -> int | None:
        """The step of the newest good checkpoint."""
        step, damaged = latest_valid(self._path)
        if step is None:
            return None
        directory = self._path / str(step)
        check_compatible(directory, read_metadata(directory), like, identity)
        for line in quarantine(self._path, damaged, step):
            self._report(step, "damaged checkpoint", f"{line}; going on from step {step}")
        return step

    def _latest_known(self) -> int | None:
        try:
            return max(steps_in(self._path), default=None)
        except OSError:  # the directory cannot be looked into, which may be what is reported
            return self._newest


def _print(step: int, event: str, message: str) -> None:
    say(f"warning: {message}", error=True)
