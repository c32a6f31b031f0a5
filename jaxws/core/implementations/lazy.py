"""Implementations whose module is imported when one of their kernels is asked for, and not before.

Pallas is experimental, takes a second to import, and its backends come and go. Whoever runs on a
CPU needs none of them, and where one cannot be imported the layer must still be computed: then the
reason is the implementation's unsupported_reason, and another one takes its place.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence

import jax
import numpy as np

from jaxws.core.implementations.spec import MAPS, Contraction, Implementation, Spec, error_line


def lazy(module: str, attribute: str) -> Implementation:
    """An implementation that lies in a module which may not be importable.

    Args:
      module: its full name.
      attribute: the module's variable that holds the :class:`Implementation`.

    Returns:
      An implementation that does what the module's does; if the import fails, everything is beyond
      it, and ``unsupported_reason`` says why.

    Example:
      >>> from jaxws.core.window import make_window
      >>> missing = lazy("jaxws.no_such_module", "IMPLEMENTATION")
      >>> window = make_window((8, 8), (3, 3))
      >>> spec = Spec(window, 1, np.dtype("float32"), np.dtype("float32"))
      >>> missing.unsupported_reason(spec, (8, 8, 3, 3, 4, 4), 1, np.dtype("float32"))
      "this installation (ModuleNotFoundError: No module named 'jaxws.no_such_module')"
    """

    @functools.cache
    def load() -> Implementation | str:
        try:
            loaded: Implementation = getattr(importlib.import_module(module), attribute)
            return loaded
        except Exception as error:  # whatever an experimental module raises when it is outdated
            return f"this installation ({error_line(error)})"

    def unsupported_reason(
        spec: Spec, kernel_shape: Sequence[int], batch: int, dtype: np.dtype
    ) -> str | None:
        loaded = load()
        if isinstance(loaded, str):
            return loaded
        return loaded.unsupported_reason(spec, kernel_shape, batch, dtype)

    def map_of(name: str) -> Contraction:
        def function(a: jax.Array, b: jax.Array, spec: Spec) -> jax.Array:
            loaded = load()
            if isinstance(loaded, str):
                raise ValueError(f"{module} does not support {loaded}.")
            contraction: Contraction = getattr(loaded, name)
            return contraction(a, b, spec)

        return function

    forward, input_gradient, kernel_gradient = map(map_of, MAPS)
    return Implementation(forward, input_gradient, kernel_gradient, unsupported_reason)
