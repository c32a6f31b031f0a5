"""The weights of a network out of a checkpoint, as others than the run itself read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxws.checkpointing.plain_path import plain_path
from jaxws.models.exported import WEIGHTS


def read_weights(directory: Path) -> dict[str, Any]:
    """Reads a network out of a checkpoint; the rest of it is left on the disk.

    Args:
      directory: of the checkpoint, from :func:`jaxws.checkpointing.directory.checkpoint_dir`.

    Returns:
      ``params`` and ``batch_stats``, nested dicts of NumPy arrays.

    Raises:
      ValueError: it cannot be read, or the run removed it meanwhile.
    """
    try:
        with plain_path(directory) as plain:
            weights = _read(plain)
    except Exception as error:  # Orbax has no base class for what can be wrong with a file
        raise ValueError(f"checkpoint {directory} cannot be read: {error}") from error
    return {name: weights.get(name) or {} for name in WEIGHTS}


def _read(directory: Path) -> Mapping[str, Any]:
    (metadata,) = directory.glob("*/_METADATA")  # of the train state, whatever its item's name
    handler = ocp.PyTreeCheckpointHandler()
    tree: Mapping[str, Any] = handler.metadata(metadata.parent)
    wanted = {name: tree[name] for name in WEIGHTS if name in tree}
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    arguments = ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy, partial_restore=True)
    weights = handler.restore(metadata.parent, args=arguments)
    handler.close()
    return weights
