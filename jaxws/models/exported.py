"""Files that ``python -m jaxws export`` writes: arrays by name, and what they are in JSON.

A compact file has less in it. Where the positions of a layer share their filters, it has one filter
per pool, and ``positions`` of the array's description says of how many positions they are: that of
(h, w) is number (h mod p, w mod q) of p * q, which loses nothing. Where positions do not share,
which is where nearly all weights of a locally connected network are, their filters are float16.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from jaxws.core.local_kernels import LOCAL_KERNEL, position_ndim
from jaxws.core.pools import POOLS, make_grid, spread_pools
from jaxws.system.json_text import parse_json

FORMAT = "jaxws weights, version 1"
KEY = "description"  # of the JSON: an entry of the npz, a field of safetensors' metadata
WEIGHTS = ("params", "batch_stats")  # what there is of a network

_LARGEST = float(np.finfo(np.float16).max)

Positions = Mapping[str, tuple[int, ...]]


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
    """Nested dicts of an export's arrays, those of a compact file as they were before.

    Args:
      arrays: that :func:`is_exported` knows.

    Returns:
      ``params`` and ``batch_stats``, as :func:`jaxws.checkpointing.weights.read_weights` does.

    Raises:
      ValueError: a compact file's description does not fit its arrays.

    Example:
      >>> to_weights({"params/fc/bias": 0.0})
      {'params': {'fc': {'bias': 0.0}}, 'batch_stats': {}}
    """
    shared = _positions(arrays)
    named = {
        name: _expanded(name, array, shared.get(name))
        for name, array in arrays.items()
        if name != KEY
    }
    nested = unflatten_dict(named, sep="/")
    return {name: nested.get(name, {}) for name in WEIGHTS}


def description_of(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """What an export says of its arrays.

    Args:
      arrays: that :func:`is_exported` knows.

    Returns:
      See :func:`jaxws.checkpointing.described.describe`.

    Raises:
      ValueError: there is none, or it is not what an export writes.

    Example:
      >>> description_of({"description": '{"format": "jaxws weights, version 1", "step": 7}'})
      {'format': 'jaxws weights, version 1', 'step': 7}
    """
    if KEY not in arrays:
        raise ValueError("no description is with the weights")
    try:
        described = parse_json(str(arrays[KEY]))
        found = described["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"the description of the weights is damaged ({error})") from error
    if found != FORMAT:
        raise ValueError(f"the description is of format {found!r}; expected {FORMAT!r}")
    return dict(described)


def compacted(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Positions]:
    """Leaves out what can be made again, and half of the bits of filters that are not shared.

    Args:
      arrays: of an export, by name.

    Returns:
      Arrays for a compact file, and the positions of those layers that share their weights.

    Raises:
      ValueError: a weight is too large for float16.

    Example:
      >>> kernel = np.ones((9, 9, 3, 3, 1, 2), np.float32)
      >>> arrays, positions = compacted({"params/a/local_kernel": kernel})
      >>> arrays["params/a/local_kernel"].shape, positions
      ((1, 1, 3, 3, 1, 2), {'params/a/local_kernel': (9, 9)})
    """
    found, positions = dict(arrays), {}
    for name, array in arrays.items():
        if name.rpartition("/")[2] != LOCAL_KERNEL:
            continue
        if (filters := _pooled(array)) is None:
            found[name] = _halved(name, array)
        else:
            found[name], positions[name] = filters, array.shape[: position_ndim(array)]
    return found, positions


def _pooled(kernel: np.ndarray) -> np.ndarray | None:
    """One filter per pool, if those of a pool are the same bits; the fewest that will do."""
    positions = kernel.shape[: position_ndim(kernel)]
    for pools in reversed(POOLS):
        periods = make_grid(kernel, pools).periods
        first = kernel[tuple(map(slice, periods))]
        if periods != positions and np.array_equal(_spread(first, positions), kernel):
            return np.ascontiguousarray(first)
    return None


def _spread(filters: np.ndarray, positions: tuple[int, ...]) -> np.ndarray:
    return np.asarray(spread_pools(jnp.asarray(filters), positions))


def _halved(name: str, array: np.ndarray) -> np.ndarray:
    if (largest := float(np.abs(array).max(initial=0.0))) > _LARGEST:
        raise ValueError(
            f"{name} has a weight of {largest:g}, which float16 cannot hold: export without"
            " --compact."
        )
    return array.astype(np.float16)


def _positions(arrays: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Those of a compact file; who writes arrays himself may describe them as he likes."""
    try:
        described = parse_json(str(arrays[KEY]))["arrays"]
        shared = {
            name: each["positions"] for name, each in described.items() if "positions" in each
        }
        return {name: tuple(map(int, each)) for name, each in shared.items()}
    except (KeyError, AttributeError, TypeError, ValueError):
        return {}  # if they are filters of pools all the same, shapes will not fit


def _expanded(name: str, array: Any, positions: tuple[int, ...] | None) -> Any:
    """The array in float32, of all positions."""
    if getattr(array, "dtype", None) == np.float16:
        array = array.astype(np.float32)
    if positions is None:
        return array
    periods = array.shape[: len(positions)]
    if len(periods) < len(positions) or any(
        period > size for period, size in zip(periods, positions, strict=True)
    ):
        raise ValueError(
            f"{name} has shape {array.shape}, and its description says that these are filters of"
            f" {positions} positions: the file is damaged"
        )
    return _spread(array, positions)
