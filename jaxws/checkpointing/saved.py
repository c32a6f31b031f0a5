"""Checkpoints as others than the run itself see them: which there are, whether they are whole.

Nothing is written and no lock is taken, so that this works while the run goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxws.checkpointing.checksums import damaged_files
from jaxws.checkpointing.directory import steps_in

_WEIGHTS = ("params", "batch_stats")


def others(checkpoints: Path) -> list[str]:
    """Names of what else lies beside checkpoints: damaged ones, and those being written.

    Args:
      checkpoints: directory of a run's checkpoints, which may be missing.

    Returns:
      Sorted names.
    """
    if not checkpoints.is_dir():
        return []
    entries = (entry for entry in checkpoints.iterdir() if entry.is_dir())
    return sorted(entry.name for entry in entries if not entry.name.isdecimal())


def damage(directory: Path) -> str:
    """Compares a checkpoint with its checksums; reads all of it.

    Args:
      directory: of the checkpoint.

    Returns:
      What is wrong with it; empty if it is good.
    """
    damaged = damaged_files(directory)
    return f"{len(damaged)} of its files changed, such as {damaged[0]}" if damaged else ""


def find(checkpoints: Path, step: int | None) -> Path:
    """The directory of a checkpoint that can be read.

    Args:
      checkpoints: directory of a run's checkpoints.
      step: its step; None for the newest.

    Returns:
      The directory.

    Raises:
      ValueError: there is none of this step, or it is damaged.
    """
    steps = steps_in(checkpoints)
    if not steps:
        raise ValueError(f"{checkpoints} has no checkpoint yet.")
    known = f"there are those of steps {', '.join(map(str, steps))}; choose one by --step"
    if step is not None and step not in steps:
        raise ValueError(f"{checkpoints} has no checkpoint of step {step}: {known}.")
    directory = checkpoints / str(steps[-1] if step is None else step)
    if wrong := damage(directory):
        raise ValueError(f"checkpoint {directory} is damaged: {wrong}; {known}.")
    return directory


def read_weights(directory: Path) -> dict[str, Any]:
    """Reads a network out of a checkpoint; the rest of it is left on the disk.

    Args:
      directory: of the checkpoint, from :func:`find`.

    Returns:
      ``params`` and ``batch_stats``, nested dicts of NumPy arrays.

    Raises:
      ValueError: it cannot be read, or the run removed it meanwhile.
    """
    try:
        (metadata,) = directory.glob("*/_METADATA")  # of the train state, whatever its item's name
        handler = ocp.PyTreeCheckpointHandler()
        tree: Mapping[str, Any] = handler.metadata(metadata.parent)
        wanted = {name: tree[name] for name in _WEIGHTS if name in tree}
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
        arguments = ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy, partial_restore=True)
        weights = handler.restore(metadata.parent, args=arguments)
        handler.close()
    except Exception as error:  # Orbax has no base class for what can be wrong with a file
        raise ValueError(f"checkpoint {directory} cannot be read: {error}") from error
    return {name: weights.get(name) or {} for name in _WEIGHTS}
