"""Between convolutions and locally connected layers: the same parameters, tied or untied.

The two kinds of layer keep their weights under different names: ``kernel`` (i, j, c / groups, f)
and ``local_kernel`` (h, w, i, j, c / groups, f). Networks built from the same function with
different layers agree in all other names, so that converting one into the other is a walk over
nested dicts; names that Flax numbers by class, :mod:`jaxws.core.layer_names` pairs.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxws.core.layer_names import class_of, conv_names
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
from jaxws.core.twins import KERNEL, Change, Shape, children_of, convert, rebuild

__all__ = ["KERNEL", "to_conv", "to_local"]


def to_local(params: PyTree, like: PyTree, *, missing_ok: bool = False) -> PyTree:
    """Repeats convolutional filters at every position: LC parameters that compute the same.

    Layers may bear the names that Flax gives to those without a ``name=``: ``Conv_1`` of one
    network is found as ``LocalConv_0`` of the other by order and shapes, also where only some are
    replaced, and blocks of your own classes likewise.

    Args:
      params: parameters of a convolutional network, nested dicts (or ``nnx.State``) with leaves
        ``kernel`` of shape (i, j, c / groups, f).
      like: parameters of the LC network, or their shapes by :func:`jax.eval_shape`: they hold the
        numbers of positions, which a convolution's parameters do not. Only shapes are read.
      missing_ok: allows a ``like`` without any such leaf, which is an error otherwise.

    Returns:
      Parameters of the structure and shapes of ``like``, with the dtypes of ``params``.

    Raises:
      ValueError: leaves that are missing, left over or misshapen, or layers that neither names nor
        order and shapes tell apart; the message lists them.

    Example:
      >>> conv = {"conv1": {"kernel": jnp.ones((3, 3, 1, 8))}}
      >>> like = {"conv1": {"local_kernel": jax.ShapeDtypeStruct((5, 5, 3, 3, 1, 8), jnp.float32)}}
      >>> jax.tree.map(jnp.shape, to_local(conv, like))
      {'conv1': {'local_kernel': (5, 5, 3, 3, 1, 8)}}
    """
    converted = convert(params, jax.eval_shape(to_arrays, like), _REPEAT)
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
        another shape or other names are meant: ``nn.Dense`` for a :class:`jaxws.LocalDense` that
        has a name of its own; numbered names where only some layers were replaced, or with blocks
        of different classes.
      mask: as in :func:`jaxws.share_weights`: a weight of the convolution is the mean over the
        positions that have it, and 0 if none has.
      missing_ok: allows a pytree without any such leaf, which is an error otherwise.

    Returns:
      The parameters with each ``local_kernel`` replaced by its mean, named ``kernel``, of shape
      (i, j, c / groups, f), and the biases of these layers by theirs. Without ``like``,
      ``LocalConv_0`` becomes ``Conv_0``, and ``LocalDense_0`` ``Dense_0`` with a kernel (c, f), as
      Flax names layers of these classes.

    Raises:
      ValueError: leaves that are missing, left over or misshapen, or layers that neither names nor
        order and shapes tell apart; the message lists them. Without ``like``, a module with
        numbered layers of both kinds.

    Example:
      >>> local = {"conv1": {"local_kernel": jnp.ones((5, 5, 3, 3, 1, 8))}}
      >>> jax.tree.map(jnp.shape, to_conv(local))
      {'conv1': {'kernel': (3, 3, 1, 8)}}
    """
    masks, params = read_masks(mask), to_arrays(params)
    needed_by = None if missing_ok else "to_conv"
    map_local_kernels(_same, params, needed_by=needed_by, masks=masks)
    tied = _tie(params, masks, ())
    return _renamed(tied, params) if like is None else convert(tied, like, _RESHAPE)


def _gains_positions(shape: Shape, target: Shape, untied: bool) -> bool:
    """Filters, and biases of LC layers, gain leading position axes; nothing else may change.

    Between these and a matrix (c, f) of ``nn.Dense`` are kernel offsets, of which there is one.
    """
    if shape == target:
        return True
    extra = target[: len(target) - len(shape)]
    offsets = extra[len(target) // 2 - 1 :] if len(shape) > 1 else ()
    return untied and target[len(extra) :] == shape and set(offsets) <= {1}


def _loses_offsets(shape: Shape, target: Shape, untied: bool) -> bool:
    """Layers of another rank have the same weights where they have the same features f."""
    return shape == target or (
        len(shape) != len(target)
        and shape[-1:] == target[-1:]
        and math.prod(shape) == math.prod(target)
    )


_REPEAT = Change(_gains_positions, jnp.broadcast_to)
_RESHAPE = Change(_loses_offsets, jnp.reshape)


def _same(path: str, kernel: Any) -> Any:
    return kernel


def _tie(node: Any, masks: Masks, path: tuple[str, ...]) -> Any:
    children = children_of(node)
    if children is None:
        return node
    kernels = [child for name, child in children.items() if name in NAMES]
    if not kernels:
        tied_children = {
            name: _tie(child, masks, (*path, str(name))) for name, child in children.items()
        }
        return rebuild(node, tied_children)
    (kernel,) = jax.tree.leaves(kernels)
    ndim = position_ndim(kernel)

    def tied(name: str, leaf: Any) -> Any:
        if name in NAMES and (mask := masks.get("/".join(path))) is not None:
            means = pool_mean(leaf, pools="global", mask=mask)
            return means.reshape(leaf.shape[ndim:]).astype(leaf.dtype)
        extra = ndim if name in NAMES else leaf.ndim - 1  # biases: (h, w, f)
        wide = leaf.astype(accumulation_dtype(leaf.dtype))
        return wide.mean(tuple(range(extra))).astype(leaf.dtype)

    return rebuild(
        node,
        {
            KERNEL if name in NAMES else name: jax.tree.map(partial(tied, name), child)
            for name, child in children.items()
        },
    )


def _renamed(tied: Any, params: Any) -> Any:
    """Gives layers of ``tied`` the numbered names that they have in a convolutional network."""
    children, before = children_of(tied), children_of(params)
    if children is None or before is None or not before.keys().isdisjoint(NAMES):
        return tied
    names = conv_names(before)
    renamed = {}
    for name, child in children.items():
        renamed[names[name]] = _renamed(child, before[name])
        if class_of(name) == "LocalDense" and KERNEL in child:  # (1, c, f), as of a 1-D layer
            matrix = jax.tree.map(lambda leaf: leaf.squeeze(0), child[KERNEL])
            renamed[names[name]] = rebuild(child, dict(child.items()) | {KERNEL: matrix})
    return rebuild(tied, renamed)
