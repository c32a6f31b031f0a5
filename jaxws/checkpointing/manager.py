"""Checkpoints: written by Orbax in the background, whole or not at all, and checked when read.

Checksums of a checkpoint's files are part of it: they are written before Orbax renames its
directory to its final name. A directory without them was never whole. One that no longer agrees
with them is set aside, and the newest good one is used instead.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from errno import ENOENT
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import orbax.checkpoint as ocp

from jaxws.checkpointing.checksums import write_checksums
from jaxws.checkpointing.complete import check_complete
from jaxws.checkpointing.directory import latest_valid, quarantine, record_latest, steps_in
from jaxws.checkpointing.failures import Failure, explain
from jaxws.checkpointing.metadata import check_compatible, read_metadata
from jaxws.checkpointing.plain_path import plain_path
from jaxws.checkpointing.retention import LastAndBest
from jaxws.checkpointing.silence import silence_orbax
from jaxws.system.text import say

# Orbax writes these two after the checksums. It does not read them to restore.
_UNCHECKED = ("_CHECKPOINT_METADATA", "commit_success.txt")

_UNFINISHED = ".orbax-checkpoint-tmp*"
_TRIES, _PAUSE_S = 10, 0.05  # to remove one

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
    ):
        """Opens a directory of checkpoints.

        Args:
          path: the directory; made if missing.
          keep: number of checkpoints to keep, the newest ones.
          scores: gives scores by step; the newest of those with the highest is kept too.
          report: is told of what goes wrong and is survived: step, name and one line about it; by
            default, the line goes to stderr.

        Raises:
          ValueError: there is something else of this name, or Orbax cannot write to such a path.
          OSError: it cannot be made.
        """
        if os.path.lexists(path) and not path.is_dir():
            raise ValueError(
                f"{path} is no directory: checkpoints of the run should lie there. Nothing was"
                " changed. Bring it back, or give another --workdir."
            )
        self._path, self._report = path, report or _print
        self._policy = LastAndBest(keep, scores, self._is_ours)
        self._saving: int | None = None
        self._arrays: Mapping[str, Any] = {}
        self._failure: Failure | None = None
        self._newest: int | None = None  # that this object knows of
        self._opened = contextlib.ExitStack()
        self._silence = contextlib.ExitStack()
        self._silence.enter_context(silence_orbax())
        self._manager: ocp.CheckpointManager | None = self._open()
        self._remove_unfinished()

    def _open(self) -> ocp.CheckpointManager:
        """Opens Orbax's manager anew: one whose save has failed goes on to raise that error."""
        with contextlib.suppress(Exception):  # the same, once more
            self._opened.close()
        self._path.mkdir(parents=True, exist_ok=True)
        plain = self._opened.enter_context(plain_path(self._path))
        options = ocp.CheckpointManagerOptions(
            lightweight_initialize=True,  # it would read files that may be damaged
            preservation_policy=self._policy,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._before_commit),
        )
        manager = ocp.CheckpointManager(plain, options=options)
        self._opened.callback(manager.close)
        return manager

    def close(self) -> None:
        """Finishes what is being written."""
        try:
            self.wait()
            self._opened.close()
        finally:
            self._silence.close()

    def latest_step(self) -> int | None:
        """Returns the step of the newest complete checkpoint, or None."""
        return max(steps_in(self._path), default=None)

    @property
    def advice(self) -> str:
        """What helps against what has kept the last checkpoint from being written."""
        return self._failure.advice if self._failure else "see that it can be written"

    def save(self, state: State, metadata: Mapping[str, Any]) -> None:
        """Starts writing a checkpoint, unless the step's is there already.

        What goes wrong now or in the background is reported, here or by a later call.

        Args:
          state: what to write.
          metadata: of :func:`jaxws.checkpointing.metadata.make_metadata`.
        """
        self.wait()
        step = int(state.step)
        if step in steps_in(self._path):
            return
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state), run=ocp.args.JsonSave(metadata)
        )
        self._saving, self._arrays = step, metadata.get("arrays", {})
        try:
            self._manager = self._manager or self._open()
            self._manager.save(step, args=items, force=True)
        except Exception as error:  # Orbax has no base class for what can go wrong
            self._failed(error)

    def wait(self) -> None:
        """Blocks until everything is written or has failed to be."""
        if self._saving is None:
            return
        try:
            if self._manager is not None:
                self._manager.wait_until_finished()
        except Exception as error:
            self._failed(error)
            return
        step, self._saving = self._saving, None
        self._wrote(step)

    def restore(self, like: Any, identity: str | None = None) -> Restored | None:
        """Reads the newest good checkpoint; damaged ones that are newer are set aside.

        Args:
          like: a state of the same structure, shapes and dtypes, or its shapes.
          identity: of the run, see :func:`jaxws.config.identity.to_json`; None for any.

        Returns:
          The checkpoint, or None if none has ever been written.

        Raises:
          ValueError: there were checkpoints and none is good, or the good one is of another run or
            network. Nothing was changed then.
        """
        self.wait()
        step, damaged = latest_valid(self._path)
        if step is None:
            return None
        self._newest = step
        directory = self._path / str(step)
        metadata = read_metadata(directory)
        check_compatible(directory, metadata, like, identity)
        for line in quarantine(self._path, damaged, step):
            self._report(step, "damaged checkpoint", f"{line}; going on from step {step}")
        try:
            self._manager = self._manager or self._open()
            self._manager.reload()
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
            items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
            return Restored(self._manager.restore(step, args=items).state, metadata)
        except Exception as error:
            raise ValueError(
                f"checkpoint {directory} has not changed since it was written but cannot be"
                f" restored: {explain(error).cause}"
            ) from error

    def _before_commit(self) -> None:
        """Called by Orbax in its thread when all files are written, before they get their name."""
        directories = list(self._path.glob(f"{self._saving}{_UNFINISHED}"))
        if not directories:
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), str(self._path))
        for directory in directories:
            check_complete(directory, self._arrays)
            write_checksums(directory, leave_out=_UNCHECKED)

    def _failed(self, error: Exception) -> None:
        """Reports a save that failed, and makes room for others."""
        step, self._saving = self._saving or 0, None
        failure, self._manager = explain(error), None
        with contextlib.suppress(Exception):  # the same, once more
            self._opened.close()
        self._remove_unfinished()
        latest = self._latest_known()
        if latest == step:  # it has its name: what failed came after that
            self._wrote(step)
            event = "old checkpoint not removed"
            line = f"a checkpoint older than that of step {step} could not be removed"
            self._report(step, event, f"{line} ({failure.cause}): that of step {step} is written")
            return
        self._failure = failure
        last = "there is none yet" if latest is None else f"the last one is of step {latest}"
        self._report(
            step,
            "checkpoint not written",
            f"the checkpoint of step {step} could not be written ({failure.cause}): {last}",
        )

    def _wrote(self, step: int) -> None:
        self._failure, self._newest = None, step
        record_latest(self._path, step)

    def _remove_unfinished(self) -> None:
        """Not Orbax's own way, which is a thread that may meet a directory of the next save."""
        for directory in self._path.glob(f"*{_UNFINISHED}"):
            # Arrays that were being written as the first one failed may put a file back meanwhile.
            for _ in range(_TRIES):
                shutil.rmtree(directory, ignore_errors=True)
                if not os.path.lexists(directory):
                    break
                time.sleep(_PAUSE_S)

    def _is_ours(self, step: int) -> bool:
        return step == self._saving or step in steps_in(self._path)

    def _latest_known(self) -> int | None:
        try:
            return self.latest_step()
        except OSError:  # the directory cannot be looked into, which may be what is reported
            return self._newest


def _print(step: int, event: str, message: str) -> None:
    say(f"warning: {message}", error=True)
