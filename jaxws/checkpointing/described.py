"""The weights of a run's checkpoint, and a description of them that needs no jaxws to be read."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from jaxws.checkpointing.directory import checkpoint_dir
from jaxws.checkpointing.weights import read_weights
from jaxws.config.fields import flat_fields
from jaxws.config.registry import ARCHITECTURES
from jaxws.config.trust import check_trusted
from jaxws.core.local_kernels import LOCAL_KERNEL
from jaxws.core.named_leaves import named_leaves
from jaxws.models.exported import FORMAT, Positions
from jaxws.records.provenance import versions
from jaxws.records.run_directory import RunDirectory, read_run

# h w output position, i j kernel offset, c input channels (of a group), f output features.
_AXES = {
    (LOCAL_KERNEL, 4): "hicf",
    (LOCAL_KERNEL, 6): "hwijcf",
    ("kernel", 2): "cf",
    ("kernel", 3): "icf",
    ("kernel", 4): "ijcf",
    ("bias", 3): "hwf",
    ("bias", 1): "f",
    ("scale", 1): "f",
    ("mean", 1): "f",
    ("var", 1): "f",
    # By PyTorch's names.
    ("weight", 1): "f",
    ("weight", 2): "fc",
    ("weight", 4): "fcij",
    ("weights", 6): "cfhwij",
    ("running_mean", 1): "f",
    ("running_var", 1): "f",
}


def describe(
    past: RunDirectory,
    step: int,
    arrays: Mapping[str, np.ndarray],
    positions: Positions = MappingProxyType({}),
) -> dict[str, Any]:
    """Says what arrays are, and where they come from.

    Args:
      past: the run.
      step: of the checkpoint.
      arrays: by name, see :func:`jaxws.core.named_leaves.named_leaves`.
      positions: of layers in a compact file, see :func:`jaxws.models.exported.compacted`.

    Returns:
      What can be written as JSON. ``arrays`` has shape, dtype and axes by name; ``data`` the shape
      of an image and how pixels are normalised: those in [0, 1], minus ``mean``, divided by
      ``std``. It is null for runs that have no provenance.json.
    """
    axes = {**_AXES, **ARCHITECTURES.load(past.config.model.architecture).axes}
    ends = [record for record in past.of_kind("epoch") if record["step"] == step]
    return {
        "format": FORMAT,
        "axes": "h w output position, i j kernel offset, c input channels of a group, f features",
        "arrays": {
            name: {
                "shape": list(array.shape),
                "dtype": array.dtype.name,
                "axes": axes.get((re.split("[/.]", name)[-1], array.ndim)),
                **({"positions": list(positions[name])} if name in positions else {}),
            }
            for name, array in arrays.items()
        },
        "step": step,
        "metrics": ends[-1] if ends else None,
        "config": dict(flat_fields(past.config)),
        "dataset": past.dataset,
        "data": past.provenance.get("data"),
        "versions": versions(),
    }


def read_described(
    path: Path, trust: Collection[str] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads the newest checkpoint of a run.

    Args:
      path: directory of the run.
      trust: modules that may be imported for it.

    Returns:
      ``params`` and ``batch_stats``, nested dicts of arrays, and :func:`describe` of them.

    Raises:
      ValueError: there is no run or checkpoint, it is damaged, or it names code that is not
        trusted.
    """
    past = read_run(path)
    check_trusted(past.config, trust, f"{path}/config.json")
    directory = checkpoint_dir(past.checkpoints, None)
    weights = read_weights(directory)
    return weights, describe(past, int(directory.name), named_leaves(weights))
