"""Finding locally connected filters in a pytree of parameters.

A leaf named ``local_kernel`` holds filters of shape (h, w, i, j, c / groups, f), or likewise in 1-D
and 3-D: output positions, kernel offsets, channels and features. Its shape alone tells the kernel
size, and so which positions share weights; no metadata travels with the parameters.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxws.core.shapes import Filters, NumpyFilters

PyTree: TypeAlias = Any

LOCAL_KERNEL = "local_kernel"
MASKED_KERNEL = "masked_local_kernel"  # of layers with a mask, see jaxws.core.masks
NAMES = (LOCAL_KERNEL, MASKED_KERNEL)
_MOST_NAMES = 12  # of leaves, in an error


class KernelLayout:
    """A pytree node in place of a leaf named ``local_kernel``: its filters, laid out otherwise.

    It has the shape and dtype of the filters. :class:`jaxws.core.packed.PackedKernel` and
    :class:`jaxws.core.pooled.PooledKernel` are such.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """That of the filters: (h, w, i, j, c / groups, f), or likewise in 1-D and 3-D."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Of the filters."""

    @abstractmethod
    def to_array(self) -> Filters:
        """The filters as the array that the node stands for."""

    @property
    def ndim(self) -> int:
        """Number of axes of the filters."""
        return len(self.shape)


# By the layer's path, what is multiplied onto its filters.
Masks: TypeAlias = Mapping[str, Any]
# A leaf named ``local_kernel``, in any layout, or its shape.
Kernel: TypeAlias = Filters | NumpyFilters | KernelLayout | jax.ShapeDtypeStruct


def to_arrays(tree: PyTree) -> PyTree:
    """Puts arrays in the place of all nodes that stand for one.

    Args:
      tree: any pytree.

    Returns:
      A pytree in which every ``local_kernel`` is an array (h, w, i, j, c / groups, f), or likewise.

    Example:
      >>> from jaxws.core.pooled import pool_kernels
      >>> pooled = pool_kernels({"local_kernel": jnp.ones((8, 8, 3, 3, 16, 32))})
      >>> jax.tree.map(jnp.shape, to_arrays(pooled))
      {'local_kernel': (8, 8, 3, 3, 16, 32)}
    """
    return map_layouts(lambda node: node.to_array(), tree)


def map_layouts(
    function: Callable[[Any], Any], tree: PyTree, kind: type[Any] = KernelLayout
) -> PyTree:
    """Applies a function to the nodes of one layout and leaves everything else alone.

    Args:
      function: called on each such node.
      tree: any pytree.
      kind: class of the layout; by default, of all.

    Returns:
      The pytree with what the function returns in place of these nodes.

    Example:
      >>> from jaxws.core.packed import PackedKernel, pack_kernels
      >>> packed = pack_kernels({"local_kernel": jnp.ones((8, 8, 3, 3, 16, 32)), "bias": 0})
      >>> map_layouts(lambda kernel: kernel.array.shape, packed, PackedKernel)
      {'bias': 0, 'local_kernel': (8, 8, 32, 144)}
    """

    def is_such(node: Any) -> bool:
        return isinstance(node, kind)

    return jax.tree.map(
        lambda node: function(node) if is_such(node) else node, tree, is_leaf=is_such
    )


def accumulation_dtype(dtype: jax.typing.DTypeLike) -> np.dtype:
    """The dtype for sums over values of a floating dtype: float32, or wider if they are.

    Args:
      dtype: of the values.

    Returns:
      A dtype.

    Example:
      >>> accumulation_dtype(jnp.bfloat16)
      dtype('float32')
    """
    dtype = jnp.dtype(dtype)
    return dtype if dtype.itemsize > 4 else jnp.dtype(jnp.float32)


def position_ndim(local_kernel: Kernel) -> int:
    """The number of position axes of LC filters, which is that of their kernel offsets.

    Args:
      local_kernel: filters, shape (h, w, i, j, c / groups, f), or likewise in 1-D and 3-D.

    Returns:
      1, 2 or 3.

    Example:
      >>> import jax.numpy as jnp
      >>> position_ndim(jnp.ones((32, 32, 3, 3, 16, 16)))
      2
    """
    return local_kernel.ndim // 2 - 1


def map_local_kernels(
    function: Callable[..., Any],
    params: PyTree,
    *others: PyTree,
    needed_by: str | None = None,
    masks: Masks | None = None,
) -> PyTree:
    """Applies a function to the leaves named ``local_kernel`` and leaves all others alone.

    Args:
      function: called as ``function(path, local_kernel, *other_leaves)``; the path is the layer's,
        joined by slashes; the kernel is an array or a :class:`KernelLayout`.
      params: any pytree: nested dicts, dataclasses, ``nnx.State``.
      *others: pytrees of the same structure, as in :func:`jax.tree.map`.
      needed_by: name of the function that has nothing to do without such leaves, for the error
        where there are none; None allows that.
      masks: of layers that have one, by path; a layer whose mask is missing is an error. None
        leaves layers with masks alone.

    Returns:
      A pytree of the same structure.

    Raises:
      ValueError: a ``local_kernel`` whose rank is not 4, 6 or 8; none where one is needed; a layer
        without its mask, or a mask without its layer.

    Example:
      >>> params = {"conv1": {"local_kernel": jnp.ones((2, 1, 1, 1)), "bias": jnp.ones(3)}}
      >>> jax.tree.map(jnp.sum, map_local_kernels(lambda path, kernel: 5 * kernel, params))
      {'conv1': {'bias': Array(3., dtype=float32), 'local_kernel': Array(10., dtype=float32)}}
    """
    seen: set[str] = set()
    layers: set[str] = set()

    def visit(path: Any, leaf: Any, *rest: Any) -> Any:
        name = (_names(path) or [""])[-1]
        seen.add(name)
        if name not in NAMES:
            return leaf
        layer = layer_of(path)
        layers.add(layer)
        if leaf.ndim not in (4, 6, 8):
            raise ValueError(
                f"{name} of layer {layer!r} has shape {leaf.shape}: expected (h, w, i, j,"
                " c / groups, f), or 4 or 8 axes in 1-D and 3-D. Replicated copies with a leading"
                " device axis belong under jax.pmap or jax.vmap."
            )
        if name == MASKED_KERNEL and layer not in (masks or ()):
            if masks is None:
                return leaf
            raise ValueError(
                f"layer {layer!r} has a mask, and the weights that it removes must not count: give"
                " mask=variables['masks'] to share_weights, weight_snr or to_conv. Other functions"
                " do not know masks."
            )
        return function(layer, leaf, *rest)

    mapped = jax.tree_util.tree_map_with_path(
        visit, params, *others, is_leaf=lambda node: isinstance(node, KernelLayout)
    )
    if needed_by and not layers:
        raise ValueError(none_found(needed_by, seen - {""}))
    if unknown := sorted(set(masks or ()) - layers):
        raise ValueError(
            f"mask has an entry for {_listed(unknown)}, which is no layer of params: expected some"
            f" of {_listed(sorted(layers))}."
        )
    return mapped


def layer_of(path: Any) -> str:
    """The path of the layer that a leaf belongs to, joined by slashes.

    Args:
      path: of the leaf, as JAX gives it.

    Returns:
      The path without the name of the filters.

    Example:
      >>> params = {"block": {"conv1": {"local_kernel": 1.0}}}
      >>> [layer_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
      ['block/conv1']
    """
    names = _names(path)
    return "/".join(names[:-1] if names and names[-1] in NAMES else names)


def _names(path: Any) -> list[str]:
    names = [jax.tree_util.keystr((entry,), simple=True) for entry in path]
    # The box of nnx.Variable and nn.Partitioned.
    return names[:-1] if names and names[-1] == "value" else names


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:_MOST_NAMES])) + (", ..." * (len(names) > _MOST_NAMES))


def none_found(needed_by: str, seen: Iterable[str]) -> str:
    """The error where a function of LC layers is given a pytree that has none.

    Args:
      needed_by: name of the function.
      seen: names of the leaves that there are.

    Returns:
      A line that says what was given, what was expected and what to do.

    Example:
      >>> none_found("share_weights", {"kernel", "bias"}).partition(":")[0]
      "share_weights found no leaf named 'local_kernel'"
    """
    names = sorted(seen)
    there = f"the leaves are named {_listed(names)}" if names else "the leaves have no names"
    return (
        f"{needed_by} found no leaf named {LOCAL_KERNEL!r}: {there}. Layers keep their filters"
        f" (h, w, i, j, c / groups, f) under that name, as jaxws.LocalConv does; give"
        " missing_ok=True for networks that have no locally connected layer."
    )
