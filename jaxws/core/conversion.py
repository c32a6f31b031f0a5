"""Between convolutions and locally connected layers: the same parameters, tied or untied.

The two kinds of layer keep their weights under different names: ``kernel`` (i, j, c / groups, f)
and ``local_kernel`` (h, w, i, j, c / groups, f). Networks built from the same function with
different layers agree in all other names, so that converting one into the other is a walk over
nested dicts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxws.core.local_kernels import (
    NAMES,
    Masks,
    PyTree,
    accumulation_dtype,
    map_local_kernels,
    position_ndim,
    to_arrays,
)
from jaxws.core.masks import read_masks
from jaxws.core.sharing import pool_mean

KERNEL = "kernel"


def to_local(params: PyTree, like: PyTree, *, missing_ok: bool = False) -> PyTree:
    """Repeats convolutional filters at every position: LC parameters that compute the same.

    Args:
      params: parameters of a convolutional network, nested dicts (or ``nnx.State``) with leaves
        ``kernel`` of shape (i, j, c / groups, f).
      like: parameters of the LC network, or their shapes by :func:`jax.eval_shape`: they hold the
        numbers of positions, which a convolution's parameters do not. Only shapes are read.
      missing_ok: allows a ``like`` without any such leaf, which is an error otherwise.

    Returns:
      Parameters of the structure and shapes of ``like``, with the dtypes of ``params``.

    Raises:
      ValueError: leaves that are missing, left over or misshapen; the message lists them.

    Example:
      >>> conv = {"conv1": {"kernel": jnp.ones((3, 3, 1, 8))}}
      >>> like = {"conv1": {"local_kernel": jax.ShapeDtypeStruct((5, 5, 3, 3, 1, 8), jnp.float32)}}
      >>> jax.tree.map(jnp.shape, to_local(conv, like))
      {'conv1': {'local_kernel': (5, 5, 3, 3, 1, 8)}}
    """

    def repeat(leaf: jax.Array, target: jax.ShapeDtypeStruct, untied: bool) -> jax.Array:
        # Filters, and biases of LC layers, gain leading position axes; nothing else may change.
        same = leaf.shape == target.shape
        if not same and not (untied and leaf.shape == target.shape[target.ndim - leaf.ndim :]):
            raise ValueError(f"has shape {leaf.shape}, expected that of {target.shape}")
        return jnp.broadcast_to(leaf, target.shape)

    converted = _convert(params, jax.eval_shape(to_arrays, like), repeat)
    map_local_kernels(_same, converted, needed_by=None if missing_ok else "to_local")
    return converted


def to_conv(
    params: PyTree,
    like: PyTree | None = None,
    *,
    mask: PyTree | None = None,
    missing_ok: bool = False,
) -> PyTree:
    """Averages filters over all positions: the convolution nearest to an LC network.

    The inverse of :func:`to_local`. Weights shared with ``pools='global'`` lose nothing.

    Args:
      params: parameters of an LC network, nested dicts (or ``nnx.State``).
      like: parameters of the convolutional network, or their shapes. Needed only where layers of
        another shape are meant, as ``nn.Dense`` for :class:`jaxws.LocalDense`.
      mask: as in :func:`jaxws.share_weights`: a weight of the convolution is the mean over the
        positions that have it, and 0 if none has.
      missing_ok: allows a pytree without any such leaf, which is an error otherwise.

    Returns:
      The parameters with each ``local_kernel`` replaced by its mean, named ``kernel``, of shape
      (i, j, c / groups, f), and the biases of these layers by theirs.

    Raises:
      ValueError: leaves that are missing, left over or misshapen; the message lists them.

    Example:
      >>> local = {"conv1": {"local_kernel": jnp.ones((5, 5, 3, 3, 1, 8))}}
      >>> jax.tree.map(jnp.shape, to_conv(local))
      {'conv1': {'kernel': (3, 3, 1, 8)}}
    """
    masks, params = read_masks(mask), to_arrays(params)
    needed_by = None if missing_ok else "to_conv"
    map_local_kernels(_same, params, needed_by=needed_by, masks=masks)
    tied = _tie(params, masks, ())
    if like is None:
        return tied

    def reshape(leaf: jax.Array, target: jax.Array | jax.ShapeDtypeStruct, _: bool) -> jax.Array:
        if leaf.size != target.size:
            raise ValueError(f"has shape {leaf.shape}, expected {target.shape}")
        return leaf.reshape(target.shape)

    return _convert(tied, like, reshape)


def _same(path: str, kernel: Any) -> Any:
    return kernel


def _tie(node: Any, masks: Masks, path: tuple[str, ...]) -> Any:
    children = _children(node)
    if children is None:
        return node
    kernels = [child for name, child in children.items() if name in NAMES]
    if not kernels:
        tied_children = {
            name: _tie(child, masks, (*path, str(name))) for name, child in children.items()
        }
        return _rebuild(node, tied_children)
    (kernel,) = jax.tree.leaves(kernels)
    ndim = position_ndim(kernel)

    def tied(name: str, leaf: Any) -> Any:
        if name in NAMES and (mask := masks.get("/".join(path))) is not None:
            means = pool_mean(leaf, pools="global", mask=mask)
            return means.reshape(leaf.shape[ndim:]).astype(leaf.dtype)
        extra = ndim if name in NAMES else leaf.ndim - 1  # biases: (h, w, f)
        wide = leaf.astype(accumulation_dtype(leaf.dtype))
        return wide.mean(tuple(range(extra))).astype(leaf.dtype)

    return _rebuild(
        node,
        {
            KERNEL if name in NAMES else name: jax.tree.map(partial(tied, name), child)
            for name, child in children.items()
        },
    )


def _convert(params: PyTree, like: PyTree, fit: Callable[[Any, Any, bool], jax.Array]) -> PyTree:
    """Rebuilds ``like`` from the leaves of ``params``, collecting every mismatch.

    ``fit(leaf, target, untied)`` is told whether the leaf belongs to an LC layer of ``like``.
    """
    problems: list[str] = []

    def visit(source: Any, target: Any, path: str, untied: bool) -> Any:
        targets, sources = _children(target), _children(source)
        if targets is None:
            try:
                # A leaf may sit in a box, such as nnx.Param: keep the source's box.
                (shape,) = jax.tree.leaves(target)
                return jax.tree.map(lambda leaf: fit(leaf, shape, untied), source)
            except ValueError as error:
                problems.append(f"{path}: {error}")
                return source
        sources, children, used = sources or {}, {}, set()
        is_local = not targets.keys().isdisjoint(NAMES)
        for name, child in targets.items():
            key = KERNEL if name in NAMES and name not in sources else name
            used.add(key)
            where = f"{path}/{name}".lstrip("/")
            if key in sources and (_children(sources[key]) is None) == (_children(child) is None):
                children[name] = visit(sources[key], child, where, is_local)
            else:
                problems.append(f"{path}/{key}: missing".lstrip("/"))
        problems.extend(
            f"{path}/{key}: left over".lstrip("/") for key in sources if key not in used
        )
        return None if problems else _rebuild(target, children)

    converted = visit(params, like, "", False)
    if problems:
        raise ValueError(
            "the two networks do not have the same layers: " + "; ".join(problems) + "."
        )
    return converted


def _children(node: Any) -> dict[Any, Any] | None:
    """The branches of a mapping, list or tuple by name or index; None for anything else."""
    if isinstance(node, Mapping):
        return dict(node.items())
    return dict(enumerate(node)) if isinstance(node, list | tuple) else None


def _rebuild(node: Any, children: dict[Any, Any]) -> Any:
    """A node of the same type with other branches."""
    rebuild: Callable[..., Any] = type(node)
    if isinstance(node, Mapping):
        return rebuild(children)
    return rebuild(*children.values()) if hasattr(node, "_fields") else rebuild(children.values())
