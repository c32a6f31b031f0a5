"""Weights out of what is in a file that ``python -m jaxws export`` wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flax.traverse_util import unflatten_dict

from jaxws.checkpointing.weights import WEIGHTS

KEY = "description"  # of the JSON: an entry of the npz, a field of safetensors' metadata


def is_exported(arrays: Mapping[str, Any]) -> bool:
    """Whether arrays have the names that an export gives.

    Args:
      arrays: of :func:`jaxws.models.torch_weights.files.read_weights_file`.

    Returns:
      A bool.

    Example:
      >>> is_exported({"params/fc/bias": 0.0}), is_exported({"fc.bias": 0.0})
      (True, False)
    """
    names = arrays.keys() - {KEY}
    return bool(names) and all(str(name).partition("/")[0] in WEIGHTS for name in names)


def to_weights(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts of an export's arrays.

    Args:
      arrays: that :func:`is_exported` knows.

    Returns:
      ``params`` and ``batch_stats``, as :func:`jaxws.checkpointing.weights.read_weights` does.

    Example:
      >>> to_weights({"params/fc/bias": 0.0, "description": "{}"})
      {'params': {'fc': {'bias': 0.0}}, 'batch_stats': {}}
    """
    named = {name: array for name, array in arrays.items() if name != KEY}
    nested = unflatten_dict(named, sep="/")
    return {name: nested.get(name, {}) for name in WEIGHTS}
