"""Which implementation computes a layer where none is asked for by name."""

from __future__ import annotations

import jax
import numpy as np
from jax import lax

from jaxws.core.implementations import native, slices
from jaxws.core.implementations.blocks import expanded
from jaxws.core.implementations.lazy import lazy
from jaxws.core.implementations.proof import trusted
from jaxws.core.implementations.spec import Contraction, Implementation, Spec, kernel_shape
from jaxws.core.partitioning import may_be_partitioned
from jaxws.core.platform import target_platform
from jaxws.core.pools import spread_pools

SLICES = "slices"
_used: set[str] = set()
BY_NAME: dict[str, Implementation] = {
    "native": native.NATIVE,
    "mosaic": lazy("jaxws.core.implementations.mosaic", "MOSAIC"),
    "triton": lazy("jaxws.core.implementations.triton", "TRITON"),
}
# The fast one of every backend, and the platform that it is compiled for. All others, and layers
# that these do not support, take the slices.
FASTEST = {"cpu": ("native", "cpu"), "tpu": ("mosaic", "tpu"), "gpu": ("triton", "cuda")}


def check(
    name: str, spec: Spec, shape: tuple[int, ...], batch: int, dtype: jax.typing.DTypeLike
) -> None:
    """Checks that an implementation that was asked for can compute a layer.

    Args:
      name: one of ``BY_NAME``.
      spec: geometry and dtypes.
      shape: of the kernel, (h, w, i, j, c / groups, f).
      batch: number of images n.
      dtype: of the image and the kernel.

    Raises:
      ValueError: it cannot, and why.
    """
    if reason := BY_NAME[name].unsupported_reason(spec, shape, batch, np.dtype(dtype)):
        raise ValueError(
            f"implementation={name!r} does not support {reason}; use implementation='slices', or"
            " None for the fastest that does."
        )


def run(map_name: str, a: jax.Array, b: jax.Array, spec: Spec, name: str | None) -> jax.Array:
    """Computes one of the three maps of :class:`jaxws.core.implementations.spec.Implementation`.

    Args:
      map_name: ``'forward'``, ``'input_gradient'`` or ``'kernel_gradient'``.
      a: its first array.
      b: its second array.
      spec: geometry and dtypes.
      name: one of ``BY_NAME``, or None for the fastest on the platform that is compiled for.

    Returns:
      The map's result.
    """
    if name is not None:
        _used.add(name)
        return _map(BY_NAME[name], map_name)(a, b, spec)
    plain = _map(slices.SLICES, map_name)
    backend = target_platform()
    fastest, platform = FASTEST.get(backend, (SLICES, ""))
    shape, batch, dtype = _sizes(map_name, a, b, spec)
    if (
        fastest == SLICES
        or may_be_partitioned(a, b)
        or BY_NAME[fastest].unsupported_reason(spec, shape, batch, dtype)
        or not trusted(fastest, BY_NAME[fastest], backend, dtype)
    ):
        _used.add(SLICES)
        return plain(a, b, spec)
    _used.add(fastest)
    fast = _map(BY_NAME[fastest], map_name)
    # A program of this process may be compiled for another platform all the same.
    result: jax.Array = lax.platform_dependent(
        a,
        b,
        **{platform: lambda a, b: fast(a, b, spec)},
        default=lambda a, b: plain(a, b, spec),
    )
    return result


def fold(gradient: jax.Array, filters: tuple[int, ...]) -> jax.Array:
    """Adds up a gradient over all positions that share a filter.

    Args:
      gradient: of every position, shape (h, w, i, j, c / groups, f).
      filters: (p, q), as in :class:`jaxws.core.implementations.spec.Spec`.

    Returns:
      Shape (p, q, i, j, c / groups, f).
    """
    positions = gradient.shape[: len(filters)]
    shape = jax.ShapeDtypeStruct((*filters, *gradient.shape[len(filters) :]), gradient.dtype)
    spread = jax.linear_transpose(lambda array: spread_pools(array, positions), shape)
    folded: jax.Array = spread(gradient)[0]
    return folded


def _map(implementation: Implementation, map_name: str) -> Contraction:
    """A map, with a gradient as ``spec.filters`` says."""
    function: Contraction = getattr(implementation, map_name)
    if implementation.folds:
        return function
    if map_name != "kernel_gradient":
        return expanded(function, map_name)

    def folded(x: jax.Array, dy: jax.Array, spec: Spec) -> jax.Array:
        gradient = function(x, dy, spec._replace(filters=None))
        return gradient if spec.filters is None else fold(gradient, spec.filters)

    return expanded(folded, map_name)


def default_name(dtype: jax.typing.DTypeLike = "float32") -> str:
    """The implementation that layers take here, where none is asked for and it supports them.

    Args:
      dtype: of the image and the kernel.

    Returns:
      Its name.

    Example:
      >>> default_name() in {*BY_NAME, "slices"}
      True
    """
    backend = target_platform()
    fastest, _ = FASTEST.get(backend, (SLICES, ""))
    usable = fastest != SLICES and trusted(fastest, BY_NAME[fastest], backend, dtype)
    return fastest if usable else SLICES


def used() -> list[str]:
    """The implementations that layers have been traced with so far in this process.

    Returns:
      Their names, sorted; those that :mod:`jaxws.core.implementations.autodiff` does by itself
      (``'slices'`` asked for by name, ``'patches'``) are not among them.
    """
    return sorted(_used)


def _sizes(
    map_name: str, a: jax.Array, b: jax.Array, spec: Spec
) -> tuple[tuple[int, ...], int, np.dtype]:
    """The kernel's shape, the batch and the dtype."""
    if map_name != "kernel_gradient":
        ndim = len(spec.window.output_size)
        positions = b.shape[:ndim] if spec.block is None else spec.window.output_size
        return (*positions, *b.shape[ndim:]), a.shape[-1], b.dtype
    # Those that do not fold compute the gradient of every position.
    return kernel_shape(a, b, spec._replace(filters=None)), a.shape[-1], a.dtype
