"""Names of what is in a pytree: the one listing that checkpoints and exported weights share."""

from __future__ import annotations

from typing import Any

import jax


def named_leaves(tree: Any) -> dict[str, Any]:
    """Lists the leaves of a pytree by name.

    Args:
      tree: any pytree: of parameters, a train state, or shapes of these.

    Returns:
      Leaves in the pytree's own order. A name is the path to the leaf, its keys, indices and
      attributes joined by slashes.

    Example:
      >>> named_leaves({"conv1": {"kernel": 1.0, "bias": [2.0, 3.0]}})
      {'conv1/bias/0': 2.0, 'conv1/bias/1': 3.0, 'conv1/kernel': 1.0}
    """
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
