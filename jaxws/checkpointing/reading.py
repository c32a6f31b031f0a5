"""A checkpoint while it is read: every process reads the arrays that it is to hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from jaxws.checkpointing.failures import explain
from jaxws.checkpointing.plain_path import plain_path
from jaxws.checkpointing.unfinished import STATE


def read_state(directory: Path, like: Any) -> Any:
    """Reads the train state of a checkpoint, wherever it was written.

    Args:
      directory: of the checkpoint.
      like: a state of the same structure, shapes and dtypes, or its shapes. Arrays get its
        shardings, and lie on this process's first device where it has none.

    Returns:
      The state.

    Raises:
      ValueError: it cannot be restored.
    """
    handler = ocp.StandardCheckpointHandler()
    try:
        with plain_path(directory) as plain:
            arguments = ocp.args.StandardRestore(jax.tree.map(_placed, like))
            return handler.restore(plain / STATE, args=arguments)
    except Exception as error:  # Orbax has no base class for what can go wrong
        raise ValueError(
            f"checkpoint {directory} has not changed since it was written but cannot be restored:"
            f" {explain(error).cause}"
        ) from error
    finally:
        handler.close()


def _placed(leaf: Any) -> Any:
    """Says where an array is to lie; Orbax would look for the devices that it was written from."""
    abstract = ocp.utils.to_shape_dtype_struct(leaf)
    if abstract.sharding is not None:
        return abstract
    return abstract.update(sharding=SingleDeviceSharding(jax.local_devices()[0]))
