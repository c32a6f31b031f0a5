"""Checkpoints: Orbax's manager, one checkpoint after each epoch."""

from __future__ import annotations

from pathlib import Path

import jax
import orbax.checkpoint as ocp

from jaxws.train_state import TrainState


class Checkpoints:
    """The checkpoints of a run. Saving is asynchronous and atomic.

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
            self._manager.save(step, args=ocp.args.StandardSave(state))

    def wait(self) -> None:
        """Blocks until everything is written."""
        self._manager.wait_until_finished()

    def restore(self, like: TrainState) -> TrainState:
        """Reads the newest checkpoint.

        Args:
          like: a state of the same structure, shapes and dtypes, or its shapes.

        Returns:
          The state that was saved.

        Raises:
          ValueError: the checkpoint cannot be read or is of another network.
        """
        step = self.latest_step()
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except Exception as error:  # Orbax has no base class for what can be wrong with a file
            raise ValueError(
                f"checkpoint {self._path / str(step)} cannot be restored: {error}. Remove it to"
                " resume from the one before, or start anew with another --workdir."
            ) from error
