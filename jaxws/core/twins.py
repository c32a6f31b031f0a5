"""Two networks that differ in the kind of their layers: leaves of one in the places of the other.

First everything that does not fit is found, from shapes alone; then the leaves are changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import jax

from jaxws.core.layer_names import class_of, pair_layers
from jaxws.core.local_kernels import NAMES, PyTree
from jaxws.core.named_leaves import named_leaves

KERNEL = "kernel"
_MOST_SHAPES = 2  # of a layer, in an error

Shape = tuple[int, ...]


class Change(NamedTuple):
    """How a leaf of one network becomes one of the other.

    Attributes:
      fits: called as ``fits(shape, target_shape, untied)``, the last being whether the leaf belongs
        to an LC layer of the target; whether the leaf can become the target.
      make: called as ``make(leaf, target_shape)`` where it can.
    """

    fits: Callable[[Shape, Shape, bool], bool]
    make: Callable[[jax.Array, Shape], jax.Array]


class _Plan(NamedTuple):
    """What becomes of a node: its problems by path, or its children's plans by their names.

    ``numbered``: some names without partner are of Flax's making.
    """

    problems: list[tuple[str, str]]
    children: dict[Any, tuple[Any, _Plan]]
    numbered: bool = False


def convert(params: PyTree, like: PyTree, change: Change) -> PyTree:
    """Puts the leaves of one network in the places of another.

    Args:
      params: nested mappings and sequences of arrays.
      like: likewise, of arrays or shapes, with ``local_kernel`` where ``params`` may have
        ``kernel``.
      change: what to do with leaves.

    Returns:
      The structure of ``like`` with the leaves of ``params``, changed.

    Raises:
      ValueError: what does not fit, all of it.

    Example:
      >>> import jax.numpy as jnp
      >>> same = Change(lambda shape, target, untied: shape == target, lambda leaf, target: leaf)
      >>> convert({"Conv_0": {"kernel": jnp.ones(1)}}, {"Conv2D_0": {"kernel": jnp.ones(1)}}, same)
      {'Conv2D_0': {'kernel': Array([1.], dtype=float32)}}
    """
    plan = _plan(params, like, False, change)
    if plan.problems:
        listed = "; ".join(f"{path}: {text}" if path else text for path, text in plan.problems)
        raise ValueError(
            f"the two networks do not have the same layers: {listed}."
            + plan.numbered
            * (
                " Flax numbers layers that have no name by their class, and neither order nor"
                " shapes tell here which is which: give each layer the same name= in both networks,"
                " as in nn.Conv(..., name='conv1') and LocalConv(..., name='conv1'), and rename the"
                " keys of parameters that you have."
            )
        )
    return _build(params, like, plan, change)


def _plan(source: Any, target: Any, untied: bool, change: Change) -> _Plan:
    targets = children_of(target)
    if targets is None:
        return _Plan(_leaf_problems(source, target, untied, change), {})
    sources, filters = children_of(source) or {}, next((n for n in NAMES if n in targets), None)
    is_local = filters is not None
    keys = {_called(key, sources, filters): key for key in sources}  # by names as in the target

    @cache
    def plan(name: Any, to: Any) -> _Plan:
        return _plan(sources[keys[name]], targets[to], is_local, change)

    def alike(name: Any, to: Any) -> bool:
        return (children_of(sources[keys[name]]) is None) == (children_of(targets[to]) is None)

    paired, unclear = pair_layers(keys, targets, lambda *n: alike(*n) and not plan(*n).problems)
    pairs = {to: name for to, name in paired.items() if alike(name, to)}
    children = {to: (keys[name], plan(name, to)) for to, name in pairs.items()}
    problems = [
        (f"{to}/{path}".rstrip("/"), text)
        for to, (_, child) in children.items()
        for path, text in child.problems
    ]
    for to, names in unclear.items():
        some = " or ".join(f"{name} ({_shapes(sources[name])})" for name in keys if name in names)
        problems.append((str(to), f"with {_shapes(targets[to])}, may be {some}"))
    missing = [to for to in targets if to not in pairs and to not in unclear]
    taken = set(paired.values()).union(*unclear.values())
    left_over = [key for name, key in keys.items() if name not in taken]
    problems += [(str(to), f"missing, {_shapes(targets[to])}") for to in missing]
    problems += [(str(key), f"left over, {_shapes(sources[key])}") for key in left_over]
    unnamed = bool(missing and left_over) and any(map(class_of, missing + left_over))
    below = any(child.numbered for _, child in children.values())
    return _Plan(problems, children, numbered=below or unnamed or bool(unclear))


def _called(key: Any, sources: Mapping[Any, Any], filters: str | None) -> Any:
    """A child's name in the target, where a convolution's filters are called otherwise."""
    return filters if filters and key == KERNEL and filters not in sources else key


def _leaf_problems(source: Any, target: Any, untied: bool, change: Change) -> list[tuple[str, str]]:
    # A leaf may sit in a box, such as nnx.Param; None is a leaf that is not there.
    given, wanted = ([tuple(leaf.shape) for leaf in jax.tree.leaves(n)] for n in (source, target))
    if len(given) == len(wanted) == 1 and change.fits(given[0], wanted[0], untied):
        return []
    if not given and not wanted:
        return []
    has, expected = (", ".join(map(str, shapes)) or "none" for shapes in (given, wanted))
    return [("", f"has shape {has}, expected that of {expected}")]


def _build(source: Any, target: Any, plan: _Plan, change: Change) -> Any:
    targets, sources = children_of(target), children_of(source)
    if targets is None or sources is None:
        shapes = [leaf.shape for leaf in jax.tree.leaves(target)]
        return jax.tree.map(lambda leaf: change.make(leaf, *shapes), source)  # in its own box
    children = {
        name: _build(sources[plan.children[name][0]], child, plan.children[name][1], change)
        for name, child in targets.items()
    }
    return rebuild(target, children)


def _shapes(node: Any) -> str:
    """The largest arrays of a layer or block, in words."""
    leaves = {name.removesuffix("/value"): leaf for name, leaf in named_leaves(node).items()}
    order = sorted(leaves, key=lambda name: -leaves[name].ndim)
    some = [f"{name} {leaves[name].shape}".strip() for name in order[:_MOST_SHAPES]]
    return ", ".join(some) + ", ..." * (len(order) > _MOST_SHAPES) if some else "nothing"


def children_of(node: Any) -> dict[Any, Any] | None:
    """The branches of a node of parameters.

    Args:
      node: of a pytree.

    Returns:
      Branches of a mapping, list or tuple by name or index; None for anything else.

    Example:
      >>> children_of((3, 4)), children_of(5)
      ({0: 3, 1: 4}, None)
    """
    if isinstance(node, Mapping):
        return dict(node.items())
    return dict(enumerate(node)) if isinstance(node, list | tuple) else None


def rebuild(node: Any, children: Mapping[Any, Any]) -> Any:
    """A node of the same type with other branches.

    Args:
      node: of a pytree.
      children: its new branches, as of :func:`children_of`.

    Returns:
      The new node.

    Example:
      >>> rebuild((3, 4), {0: 1, 1: 2})
      (1, 2)
    """
    make: Callable[..., Any] = type(node)
    if isinstance(node, Mapping):
        return make(dict(children))
    return make(*children.values()) if hasattr(node, "_fields") else make(children.values())
