"""A network's weights as arrays with names, and a description in JSON: for use without jaxws."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxws.checkpointing.exported import KEY
from jaxws.config.fields import flat_fields
from jaxws.config.registry import ARCHITECTURES
from jaxws.core.local_kernels import LOCAL_KERNEL
from jaxws.core.named_leaves import named_leaves
from jaxws.records.provenance import versions
from jaxws.records.run_directory import RunDirectory
from jaxws.system.atomic import replacing

FORMAT = "jaxws weights, version 1"
SUFFIXES = (".safetensors", ".npz")

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
}


def flat_arrays(weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Names every array by its place.

    Args:
      weights: nested dicts of arrays.

    Returns:
      Arrays by name, sorted.

    Example:
      >>> list(flat_arrays({"params": {"conv1": {"kernel": np.ones((3, 3, 1, 8))}}}))
      ['params/conv1/kernel']
    """
    named = sorted(named_leaves(weights).items())
    return {name: np.ascontiguousarray(array) for name, array in named}


def describe(past: RunDirectory, step: int, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Says what arrays are, and where they come from.

    Args:
      past: the run.
      step: of the checkpoint.
      arrays: of :func:`flat_arrays`.

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
                "axes": axes.get((name.rsplit("/", 1)[-1], array.ndim)),
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
      ValueError: safetensors is missing.
    """
    if out.suffix.lower() == ".safetensors" and importlib.util.find_spec("safetensors") is None:
        raise ValueError(
            f"--out={out} needs safetensors, which is not installed: pip install safetensors,"
            " or give a name that ends in .npz."
        )


def write(out: Path, arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
    """Writes a file, whole or not at all.

    Args:
      out: ends in .safetensors or .npz.
      arrays: of :func:`flat_arrays`.
      description: of :func:`describe`.
    """
    text = json.dumps(description, indent=1)
    with replacing(out) as temporary:
        if out.suffix.lower() == ".safetensors":
            from safetensors.numpy import save_file  # noqa: PLC0415 - an optional dependency

            save_file(dict(arrays), temporary, metadata={KEY: text})
        else:
            with temporary.open("wb") as file:
                np.savez(file, **{KEY: np.array(text)}, **arrays)  # type: ignore[arg-type]
