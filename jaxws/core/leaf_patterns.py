"""Leaves of a pytree by patterns of their names, such as ``conv1/*``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax

from jaxws.core.local_kernels import KernelLayout, PyTree

_MOST_NAMES = 8  # in an error


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name fits one of the patterns.

    Args:
      name: of a leaf, as :func:`jaxws.core.named_leaves.named_leaves` has it.
      patterns: of the shell: ``*`` is any text, slashes included, ``?`` any character, ``[ab]`` one
        of these.

    Returns:
      A bool.

    Example:
      >>> matches("layer1_0/conv1/kernel", ("layer1_*",)), matches("fc/bias", ("fc",))
      (True, False)
    """
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def matching(names: Sequence[str], patterns: Iterable[str], given_as: str) -> list[str]:
    """The names that fit a pattern; each pattern must fit one.

    Args:
      names: of all leaves.
      patterns: see :func:`matches`.
      given_as: where users gave them, for the error.

    Returns:
      Names, in their order.

    Raises:
      ValueError: a pattern that fits none of them.

    Example:
      >>> matching(["conv1/kernel", "fc/bias"], ("fc/*",), "freeze")
      ['fc/bias']
      >>> matching(["conv1/kernel", "fc/bias"], ("fc",), "freeze")
      Traceback (most recent call last):
      ValueError: freeze: no leaf fits 'fc': did you mean 'fc/*'? There are 'conv1/kernel',
      'fc/bias'.
    """
    patterns = tuple(patterns)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            below = f"{pattern.rstrip('/')}/*"
            hint = (
                f": did you mean {below!r}?"
                if any(fnmatchcase(name, below) for name in names)
                else "."
            )
            listed = ", ".join(map(repr, names[:_MOST_NAMES]))
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            raise ValueError(
                f"{given_as}: no leaf fits {pattern!r}{hint} There are {listed}{more}."
            )
    return [name for name in names if matches(name, patterns)]


def map_matching(
    function: Callable[..., Any], tree: PyTree, patterns: Sequence[str], *others: PyTree
) -> PyTree:
    """Applies a function to the leaves that fit, and leaves all others alone.

    Args:
      function: called with a leaf, and with what the others have in its place. A locally connected
        kernel is one leaf in any layout.
      tree: any pytree.
      patterns: see :func:`matches`.
      *others: pytrees that go on where the first one ends, at most.

    Returns:
      A pytree of the structure of ``tree``, but for what the function returns.

    Example:
      >>> map_matching(lambda leaf: -leaf, {"conv1": {"kernel": 1.0}, "fc": 2.0}, ("conv1/*",))
      {'conv1': {'kernel': -1.0}, 'fc': 2.0}
    """

    def visit(path: Any, leaf: Any, *rest: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return function(leaf, *rest) if matches(name, patterns) else leaf

    return jax.tree_util.tree_map_with_path(visit, tree, *others, is_leaf=_is_layout)


def matching_mask(tree: PyTree, patterns: Sequence[str]) -> PyTree:
    """Which leaves fit, as optax's masks say it.

    Args:
      tree: any pytree.
      patterns: see :func:`matches`.

    Returns:
      A pytree of bools; one for each locally connected kernel, in any layout.

    Example:
      >>> matching_mask({"conv1": {"kernel": 1.0}, "fc": 2.0}, ("conv1/*",))
      {'conv1': {'kernel': True}, 'fc': False}
    """
    everything = jax.tree.map(lambda _: False, tree, is_leaf=_is_layout)
    return map_matching(lambda _: True, everything, patterns)


def _is_layout(node: Any) -> bool:
    return isinstance(node, KernelLayout)
