"""Checkpoints: Orbax's manager, one checkpoint after each epoch, and checksums of its files."""

from __future__ import annotations

from pathlib import Path

import jax
import orbax.checkpoint as ocp

from jaxws.checksums import damaged_files, has_checksums, write_checksums
from jaxws.train_state import TrainState


class Checkpoints:
    """The checkpoints of a run. Saving is asynchronous and atomic; damage is found by checksums.

    A checkpoint gets its checksums when the next one is saved or the run ends; one that a kill left
    without them is restored unchecked.

    Example:
      >>> import contextlib, tempfile, jax.numpy as jnp
      >>> state = TrainState(jnp.asarray(7), {"w": jnp.ones(2)}, {}, ())
      >>> with contextlib.closing(Checkpoints(Path(tempfile.mkdtemp()), 1)) as checkpoints:
      ...     checkpoints.save(state)
      ...     checkpoints.wait()
      ...     int(checkpoints.restore(state).step)
      7
    """

    def __init__(self, path: Path, keep: int):
        """Opens a directory of checkpoints.

        Args:
          path: the directory; made if missing.
          keep: number of checkpoints to keep, the newest ones.
        """
        self._path = path
        self._manager = ocp.CheckpointManager(
            path,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep, create=True, cleanup_tmp_directories=True
            ),
        )

    def close(self) -> None:
        """Finishes what is being written."""
        try:
            self.wait()
        finally:
            self._manager.close()

    def latest_step(self) -> int | None:
        """Returns the step of the newest complete checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, state: TrainState) -> None:
        """Starts writing a checkpoint, unless the step's is there already.

        Args:
          state: what to write.
        """
        step = int(state.step)
        if step != self.latest_step():
            self.wait()
            self._manager.save(step, args=ocp.args.StandardSave(state))

    def wait(self) -> None:
        """Blocks until everything is written, and takes checksums of it."""
        self._manager.wait_until_finished()
        for step in self._manager.all_steps():
            if not has_checksums(self._path / str(step)):
                write_checksums(self._path / str(step))

    def restore(self, like: TrainState) -> TrainState:
        """Reads the newest checkpoint.

        Args:
          like: a state of the same structure, shapes and dtypes, or its shapes.

        Returns:
          The state that was saved.

        Raises:
          ValueError: the checkpoint is damaged or of another network.
        """
        directory = self._path / str(self.latest_step())
        remedy = "Remove it to resume from the one before, or start anew with another --workdir."
        # Before Orbax looks at it: what it says about a damaged file fills a screen.
        if has_checksums(directory) and (damaged := damaged_files(directory)):
            raise ValueError(
                f"checkpoint {directory} is damaged: {len(damaged)} of its files changed since they"
                f" were written, such as {damaged[0]}. {remedy}"
            )
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            return self._manager.restore(
                self.latest_step(), args=ocp.args.StandardRestore(abstract)
            )
        except Exception as error:  # Orbax has no base class for what can be wrong with a file
            raise ValueError(
                f"checkpoint {directory} cannot be restored: {error}. {remedy}"
            ) from error
