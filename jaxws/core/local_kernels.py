"""Finding locally connected filters in a pytree of parameters.

A leaf named ``local_kernel`` holds filters of shape (h, w, i, j, c / groups, f), or likewise in 1-D
and 3-D: output positions, kernel offsets, channels and features. Its shape alone tells the kernel
size, and so which positions share weights; no metadata travels with the parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax

PyTree: TypeAlias = Any

LOCAL_KERNEL = "local_kernel"


def position_ndim(local_kernel: jax.Array) -> int:
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


def map_local_kernels(function: Callable[..., Any], params: PyTree, *others: PyTree) -> PyTree:
    """Applies a function to the leaves named ``local_kernel`` and leaves all others alone.

    Args:
      function: called as ``function(path, local_kernel, *other_leaves)``; the path is the layer's,
        joined by slashes.
      params: any pytree: nested dicts, dataclasses, ``nnx.State``.
      *others: pytrees of the same structure, as in :func:`jax.tree.map`.

    Returns:
      A pytree of the same structure.

    Raises:
      ValueError: a ``local_kernel`` whose rank is not 4, 6 or 8.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"conv1": {"local_kernel": jnp.ones((2, 1, 1, 1)), "bias": jnp.ones(3)}}
      >>> jax.tree.map(jnp.sum, map_local_kernels(lambda path, kernel: 5 * kernel, params))
      {'conv1': {'bias': Array(3., dtype=float32), 'local_kernel': Array(10., dtype=float32)}}
    """

    def visit(path, leaf, *rest):
        names = [_entry_name(entry) for entry in path]
        if names and names[-1] == "value":  # the box of nnx.Variable and nn.Partitioned
            names.pop()
        if not names or names[-1] != LOCAL_KERNEL:
            return leaf
        layer = "/".join(names[:-1])
        if leaf.ndim not in (4, 6, 8):
            raise ValueError(
                f"{LOCAL_KERNEL} of layer {layer!r} has shape {leaf.shape}: expected (h, w, i, j,"
                " c / groups, f), or 4 or 8 axes in 1-D and 3-D. Replicated copies with a leading"
                " device axis belong under jax.pmap or jax.vmap."
            )
        return function(layer, leaf, *rest)

    # Nodes that stand for one kernel have its shape: jaxws.core.packed.PackedKernel.
    return jax.tree_util.tree_map_with_path(
        visit, params, *others, is_leaf=lambda node: hasattr(node, "kernel_size")
    )


def _entry_name(entry: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)
