"""Checkpoints: written by Orbax in the background, whole or not at all, and checked when read.

Checksums of a checkpoint's files are part of it: they are written before Orbax renames its
directory to its final name. A directory without them was never whole. One that no longer agrees
with them is set aside, and the newest good one is used instead.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from jaxws.checkpointing.checksums import write_checksums
from jaxws.checkpointing.directory import newest_good, note_newest, set_aside, steps_in
from jaxws.checkpointing.metadata import read_facts, refuse_other
from jaxws.checkpointing.orbax_noise import Quiet
from jaxws.training.state import TrainState

# Orbax writes these two after the checksums. It does not read them to restore.
_UNCHECKED = ("_CHECKPOINT_METADATA", "commit_success.txt")

Report = Callable[[int, str, str], None]


class Saved(NamedTuple):
    """A checkpoint.

    Attributes:
      state: the train state.
      facts: what it says about itself; see :mod:`jaxws.checkpointing.metadata`.
    """

    state: TrainState
    facts: dict[str, Any]


class Checkpoints:
    """The checkpoints of a run. Saving is asynchronous and atomic; damage is found by checksums.

    Example:
      >>> import contextlib, tempfile, jax.numpy as jnp
      >>> from jaxws.checkpointing.metadata import describe
      >>> state = TrainState(jnp.asarray(7), {"w": jnp.ones(2)}, {}, ())
      >>> with contextlib.closing(Checkpoints(Path(tempfile.mkdtemp()), 1)) as checkpoints:
      ...     checkpoints.save(state, describe(state))
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
        """
        self._path, self._report = path, report or _print
        self._policy = _LastAndBest(keep, scores)
        self._saving: int | None = None
        self._quiet = Quiet()
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            create=True,
            cleanup_tmp_directories=True,
            lightweight_initialize=True,  # it would read files that may be damaged
            preservation_policy=self._policy,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._before_commit),
        )
        return ocp.CheckpointManager(self._path, options=options)

    def close(self) -> None:
        """Finishes what is being written."""
        try:
            self.wait()
            self._manager.close()
        finally:
            self._quiet.end()

    def latest_step(self) -> int | None:
        """Returns the step of the newest complete checkpoint, or None."""
        return max(steps_in(self._path), default=None)

    def save(self, state: TrainState, facts: Mapping[str, Any]) -> None:
        """Starts writing a checkpoint, unless the step's is there already.

        What goes wrong now or in the background is reported, here or by a later call.

        Args:
          state: what to write.
          facts: of :func:`jaxws.checkpointing.metadata.describe`.
        """
        self.wait()
        step = int(state.step)
        if step in steps_in(self._path):
            return
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), run=ocp.args.JsonSave(facts))
        self._saving = step
        try:
            self._manager.save(step, args=items, force=True)
        except Exception as error:  # Orbax has no base class for what can go wrong
            self._failed(error)

    def wait(self) -> None:
        """Blocks until everything is written or has failed to be."""
        if self._saving is None:
            return
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._failed(error)
            return
        step, self._saving = self._saving, None
        note_newest(self._path, step)

    def restore(self, like: TrainState, identity: str | None = None) -> Saved | None:
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
        step, damaged = newest_good(self._path)
        if step is None:
            return None
        directory = self._path / str(step)
        facts = read_facts(directory)
        refuse_other(directory, facts, like, identity)
        for line in set_aside(self._path, damaged, step):
            self._report(step, "damaged checkpoint", f"{line}; going on from step {step}")
        self._manager.reload()
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        try:
            return Saved(self._manager.restore(step, args=items).state, facts)
        except Exception as error:
            raise ValueError(
                f"checkpoint {directory} has not changed since it was written but cannot be"
                f" restored: {_reason(error)}"
            ) from error

    def _before_commit(self) -> None:
        """Called by Orbax in its thread when all files are written, before they get their name."""
        for directory in self._path.glob(f"{self._saving}.orbax-checkpoint-tmp*"):
            write_checksums(directory, leave_out=_UNCHECKED)

    def _failed(self, error: Exception) -> None:
        """Reports a save that failed, and makes room for others."""
        step, self._saving = self._saving or 0, None
        with contextlib.suppress(Exception):  # the same, once more
            self._manager.close()
        for directory in self._path.glob(f"{step}.orbax-checkpoint-tmp*"):
            shutil.rmtree(directory, ignore_errors=True)
        self._manager = self._open()  # the old one would go on to raise the error
        latest = self.latest_step()
        last = "there is none yet" if latest is None else f"the last one is of step {latest}"
        self._report(
            step,
            "checkpoint not written",
            f"the checkpoint of step {step} could not be written ({_reason(error)}): {last}",
        )


class _LastAndBest:
    """Which checkpoints Orbax keeps: the last ones, and the newest of those with the best score."""

    def __init__(self, keep: int, scores: Callable[[], Mapping[int, float]]):
        self._keep, self._scores = keep, scores

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        last = sorted(steps)[-self._keep :]
        scores = self._scores()
        scored = [step for step in steps if step in scores]
        best = max(scored, key=lambda step: (scores[step], step), default=None)
        return [step in last or step == best for step in steps]


def _print(step: int, event: str, message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _reason(error: BaseException) -> str:
    """The first cause of an error in a few words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    for known in ("No space left on device", "Disk quota exceeded", "File too large"):
        if known in text:
            return known
    return text[:200]
