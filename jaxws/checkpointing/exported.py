"""Weights from a file that ``python -m jaxws export`` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import unflatten_dict

from jaxws.checkpointing.weights import WEIGHTS

KEY = "description"  # of the JSON: an entry of the npz, a field of safetensors' metadata


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of a file.

    Args:
      file: .npz or .safetensors.

    Returns:
      Arrays by name, the description left out.

    Raises:
      ValueError: it cannot be read, or safetensors is missing.
    """
    try:
        if file.suffix.lower() == ".safetensors":
            from safetensors.numpy import load_file  # noqa: PLC0415 - an optional dependency

            return dict(load_file(file))
        with np.load(file, allow_pickle=False) as content:
            return {name: content[name] for name in content.files if name != KEY}
    except ImportError as error:
        raise ValueError(
            f"{file} needs safetensors, which is not installed: pip install safetensors."
        ) from error
    except Exception as error:  # of zip, zlib, NumPy and safetensors, which has its own
        raise ValueError(f"{file} cannot be read: {' '.join(str(error).split())}") from error


def is_exported(arrays: dict[str, np.ndarray]) -> bool:
    """Whether arrays have the names that an export gives.

    Args:
      arrays: of :func:`read_arrays`.

    Returns:
      A bool.

    Example:
      >>> is_exported({"params/fc/bias": np.ones(3)}), is_exported({"fc.bias": np.ones(3)})
      (True, False)
    """
    return bool(arrays) and all(name.partition("/")[0] in WEIGHTS for name in arrays)


def to_weights(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Nested dicts of an export's arrays.

    Args:
      arrays: that :func:`is_exported` knows.

    Returns:
      ``params`` and ``batch_stats``, as :func:`jaxws.checkpointing.weights.read_weights` does.

    Example:
      >>> to_weights({"params/fc/bias": np.ones(1)})
      {'params': {'fc': {'bias': array([1.])}}, 'batch_stats': {}}
    """
    nested = unflatten_dict(arrays, sep="/")
    return {name: nested.get(name, {}) for name in WEIGHTS}
