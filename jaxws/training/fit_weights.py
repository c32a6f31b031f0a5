"""Weights of one network for another one: the same, or convolutional for locally connected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxws.core.conversion import KERNEL, to_local
from jaxws.core.leaf_patterns import matches, matching
from jaxws.core.local_kernels import LOCAL_KERNEL
from jaxws.core.named_leaves import named_leaves

_MOST_LISTED = 8
_FIELD = "config.model.init_fresh"


class Fitted(NamedTuple):
    """Weights with the names and shapes of a network.

    Attributes:
      variables: ``params`` and ``batch_stats``, flat, by name, float32.
      repeated: number of convolutional kernels that were repeated at every position.
      tied: number of locally connected arrays, equal at all positions, that became one of these.
      fresh: names of the network's leaves that are not in them.
      unused: names of leaves that fit a pattern of ``fresh`` and that the network has not.
    """

    variables: dict[str, dict[str, np.ndarray]]
    repeated: int
    tied: int
    fresh: list[str]
    unused: list[str]


def fit_weights(
    given: Mapping[str, Any], shapes: Mapping[str, Any], fresh: Sequence[str] = ()
) -> Fitted:
    """Finds the weights of a network in those of another one.

    A convolution's kernel becomes a ``local_kernel`` by :func:`jaxws.to_local`. The other way
    nothing is averaged: a ``local_kernel`` becomes a ``kernel`` only if it is one, equal at all
    positions.

    Args:
      given: by collection, ``params`` and ``batch_stats``, nested dicts of arrays.
      shapes: those of the network, likewise, of :func:`jax.eval_shape`.
      fresh: patterns of leaves (:mod:`jaxws.core.leaf_patterns`), of either network and in either
        collection, to leave out.

    Returns:
      The weights.

    Raises:
      ValueError: leaves that are missing, left over or of another shape, with names and shapes on
        both sides; a pattern that fits none; numbers that are not finite.

    Example:
      >>> given = {"params": {"conv1": {"kernel": np.ones((3, 3, 1, 8))}}}
      >>> like = jax.ShapeDtypeStruct((5, 5, 3, 3, 1, 8), "float32")
      >>> fitted = fit_weights(given, {"params": {"conv1": {"local_kernel": like}}})
      >>> fitted.variables["params"]["conv1/local_kernel"].shape, fitted.repeated
      ((5, 5, 3, 3, 1, 8), 1)
    """
    there = {name: named_leaves(tree) for name, tree in given.items()}
    here = {name: named_leaves(tree) for name, tree in shapes.items()}
    every = dict.fromkeys(name for tree in (*here.values(), *there.values()) for name in tree)
    matching(list(every), fresh, f"{_FIELD}={tuple(fresh)!r}")
    problems: list[str] = []
    variables, repeated, tied = {}, 0, 0
    for collection, targets in here.items():
        sources = _without(there.get(collection, {}), fresh)
        targets = _without(targets, fresh)  # noqa: PLW2901
        found = _paired(sources, targets, problems)
        tied += sum(_is_tied(sources, name) for name in found)
        repeated += sum(name.endswith(LOCAL_KERNEL) and name not in sources for name in found)
        variables[collection] = (found, targets)
    if problems:
        more = f"; and {len(problems) - _MOST_LISTED} more" if len(problems) > _MOST_LISTED else ""
        raise ValueError(
            f"the weights are not those of this network ({'; '.join(problems[:_MOST_LISTED])}"
            f"{more}). Leave leaves out by config.model.init_fresh, as in ('fc/*',)."
        )
    return Fitted(
        {name: _expand(*pair) for name, pair in variables.items()},
        repeated,
        tied,
        [name for tree in here.values() for name in tree if matches(name, fresh)],
        sorted(n for c, t in there.items() for n in t if matches(n, fresh) and n not in here[c]),
    )


def _without(leaves: Mapping[str, Any], fresh: Sequence[str]) -> dict[str, Any]:
    return {name: leaf for name, leaf in leaves.items() if not matches(name, fresh)}


def _other_name(name: str) -> str:
    """What the leaf is called in a network of the other kind of layer."""
    layer, slash, leaf = name.rpartition("/")
    return layer + slash + {KERNEL: LOCAL_KERNEL, LOCAL_KERNEL: KERNEL}.get(leaf, leaf)


def _is_tied(sources: Mapping[str, Any], name: str) -> bool:
    return name.rpartition("/")[2] == KERNEL and name not in sources


def _paired(
    sources: Mapping[str, Any], targets: Mapping[str, Any], problems: list[str]
) -> dict[str, np.ndarray]:
    """For each leaf of the network, the array that it is made of."""
    found: dict[str, np.ndarray] = {}
    used = set()
    for name, target in targets.items():
        key = name if name in sources else _other_name(name)
        used.add(key)
        if key not in sources:
            problems.append(f"{name}: none there, {target.shape} here")
            continue
        array = np.asarray(sources[key])
        layer = name.removesuffix(name.rpartition("/")[2])
        if layer + KERNEL in targets and layer + LOCAL_KERNEL in sources:
            array = _tie(array, target.shape)
        local = layer + LOCAL_KERNEL in targets and layer + KERNEL in sources
        end = target.shape[len(target.shape) - array.ndim :] if local else target.shape
        other = f" as {key}" if key != name else ""
        if array.shape != end:
            problems.append(f"{name}: {np.shape(sources[key])} there{other}, {target.shape} here")
            if array.ndim > len(target.shape):
                problems[-1] += ", and not equal at all positions (share weights, or jaxws.to_conv)"
        elif not (jnp.issubdtype(array.dtype, jnp.floating) and np.isfinite(array).all()):
            problems.append(f"{key}: {array.dtype} there, with numbers that are not finite floats")
        else:
            found[name] = array.astype(np.float32)
    problems.extend(
        f"{name}: {np.shape(leaf)} there, none here"
        for name, leaf in sources.items()
        if name not in used
    )
    return found


def _tie(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """One position's weights, if those of all positions are the same."""
    extra = array.ndim - len(shape)
    first = array[(0,) * extra]
    return first if extra > 0 and (array == first).all() else array


def _expand(found: dict[str, np.ndarray], targets: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Repeats convolutions at every position where the network is locally connected."""
    renamed: dict[str, jax.Array] = {}
    for name, array in found.items():
        repeats = name.endswith(LOCAL_KERNEL) and array.shape != targets[name].shape
        renamed[_other_name(name) if repeats else name] = jnp.asarray(array)
    nested = to_local(
        unflatten_dict(renamed, sep="/"), unflatten_dict(dict(targets), sep="/"), missing_ok=True
    )
    flat = flatten_dict(nested, sep="/") if found else {}
    return {name: np.asarray(array) for name, array in flat.items()}
