"""Programs of several processes, which all have to be compiled before one of them runs.

A program waits for the others wherever devices exchange numbers, and on CPUs it gives up after half
a minute (gloo). Compilations of one program may well end further apart: a machine is busy, or has
the program in its cache.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable
from typing import Any

import jax

from jaxws.parallel import processes


class Together:
    """A jitted function; what several processes run of it, they have all compiled before.

    Otherwise it is the function.

    Example:
      >>> @Together
      ... @jax.jit
      ... def twice(x):
      ...     return 2 * x
      >>> int(twice(3))
      6
    """

    def __init__(self, program: Any):
        """Wraps a function.

        Args:
          program: of :func:`jax.jit`.
        """
        functools.update_wrapper(self, program)
        self._program = program
        self._compiled: set[Hashable] = set()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function."""
        if processes.count() > 1 and not _is_traced(args, kwargs):
            self._compile(args, kwargs)
        return self._program(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """What else the function has, such as ``lower``."""
        return getattr(self._program, name)

    def _compile(self, args: Any, kwargs: Any) -> None:
        kind = hash(
            (jax.tree.structure((args, kwargs)), *map(_kind, jax.tree.leaves((args, kwargs))))
        )
        if kind not in self._compiled:
            self._program.lower(*args, **kwargs).compile()  # JAX keeps it for the call
            processes.barrier(f"compiled {self.__name__}")
            self._compiled.add(kind)


def _kind(leaf: Any) -> Hashable:
    """What a program is compiled for: of an array, what it is like; else the value."""
    if isinstance(leaf, jax.Array):
        return leaf.shape, leaf.dtype, leaf.sharding
    return leaf if isinstance(leaf, Hashable) else None


def _is_traced(args: Any, kwargs: Any) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((args, kwargs)))
