"""A network's weights as arrays with names, and a description in JSON: for use without jaxws."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from jaxws.config.fields import flat_fields
from jaxws.config.registry import ARCHITECTURES
from jaxws.core.local_kernels import LOCAL_KERNEL
from jaxws.core.named_leaves import named_leaves
from jaxws.models.exported import FORMAT, KEY, Positions
from jaxws.models.torch_export import to_torch_state_dict
from jaxws.records.provenance import versions
from jaxws.records.run_directory import RunDirectory
from jaxws.system.atomic import replacing

SUFFIXES = (".safetensors", ".npz")
TORCH_SUFFIXES = (".pth", ".pt")  # of a file for torch.load
NAMES = ("jaxws", "torch")  # and orders of axes

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


def flat_arrays(weights: Mapping[str, Any], names: str = "jaxws") -> dict[str, np.ndarray]:
    """Names every array by its place.

    Args:
      weights: nested dicts of arrays.
      names: of :data:`NAMES`; ``"torch"`` for those that PyTorch has for them, and its axes.

    Returns:
      Arrays by name, sorted.

    Raises:
      ValueError: PyTorch has no names for them.

    Example:
      >>> list(flat_arrays({"params": {"conv1": {"kernel": np.ones((3, 3, 1, 8))}}}))
      ['params/conv1/kernel']
    """
    if names == "torch":
        return dict(sorted(to_torch_state_dict(weights).items()))
    named = sorted(named_leaves(weights).items())
    return {name: np.ascontiguousarray(array) for name, array in named}


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
      arrays: of :func:`flat_arrays`.
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


def check_format(out: Path) -> None:
    """Checks that a file's format can be written.

    Args:
      out: the file.

    Raises:
      ValueError: the package for it is missing.
    """
    package = {".safetensors": "safetensors"} | dict.fromkeys(TORCH_SUFFIXES, "torch")
    needed = package.get(out.suffix.lower())
    if needed and importlib.util.find_spec(needed) is None:
        raise ValueError(
            f"--out={out} needs {needed}, which is not installed: pip install {needed},"
            " or give a name that ends in .npz."
        )


def write(out: Path, arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
    """Writes a file, whole or not at all.

    Args:
      out: ends in .safetensors or .npz; or in .pth or .pt, for arrays of PyTorch's names, which
        are a state dict without description then.
      arrays: of :func:`flat_arrays`.
      description: of :func:`describe`.
    """
    text = json.dumps(description, indent=1)
    with replacing(out) as temporary:
        if out.suffix.lower() == ".safetensors":
            from safetensors.numpy import save_file  # noqa: PLC0415 - an optional dependency

            save_file(dict(arrays), temporary, metadata={KEY: text})
        elif out.suffix.lower() in TORCH_SUFFIXES:
            import torch  # noqa: PLC0415 - an optional dependency

            state = {name: torch.from_numpy(array) for name, array in arrays.items()}
            torch.save(state, temporary)
        else:
            with temporary.open("wb") as file:
                np.savez(file, **{KEY: np.array(text)}, **arrays)  # type: ignore[arg-type]
