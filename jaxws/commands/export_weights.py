"""A network's weights as arrays with names, and a description in JSON: for use without jaxws."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from jaxws.core.named_leaves import named_leaves
from jaxws.models.exported import KEY
from jaxws.models.torch_export import to_torch_state_dict
from jaxws.system.atomic import replacing

SUFFIXES = (".safetensors", ".npz")
TORCH_SUFFIXES = (".pth", ".pt")  # of a file for torch.load
NAMES = ("jaxws", "torch")  # and orders of axes


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


def check_format(out: Path) -> None:
    """Checks that a file's format can be written.

    Args:
      out: the file.

    Raises:
      ValueError: the package for it is missing.
    """
    if out.suffix.lower() in TORCH_SUFFIXES and importlib.util.find_spec("torch") is None:
        raise ValueError(
            f"--out={out} needs torch, which is not installed: pip install torch,"
            " or give a name that ends in .npz."
        )


def write(out: Path, arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
    """Writes a file, whole or not at all.

    Args:
      out: ends in .safetensors or .npz; or in .pth or .pt, for arrays of PyTorch's names, which
        are a state dict without description then.
      arrays: of :func:`flat_arrays`.
      description: of :func:`jaxws.checkpointing.described.describe`.
    """
    text = json.dumps(description, indent=1)
    with replacing(out) as temporary:
        if out.suffix.lower() == ".safetensors":
            save_file(dict(arrays), temporary, metadata={KEY: text})
        elif out.suffix.lower() in TORCH_SUFFIXES:
            import torch  # noqa: PLC0415 - an optional dependency

            state = {name: torch.from_numpy(array) for name, array in arrays.items()}
            torch.save(state, temporary)
        else:
            with temporary.open("wb") as file:
                np.savez(file, **{KEY: np.array(text)}, **arrays)  # type: ignore[arg-type]
