"""Under ``shard_map``: over which axes of the mesh an array varies, before and after a kernel.

JAX keeps track of it for its own operations. Custom rules and custom calls have to say it.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
from jax import lax


def vary_alike(*arrays: jax.Array) -> list[jax.Array]:
    """Marks arrays as varying over every mesh axis that any of them varies over.

    A custom rule must give cotangents of its arguments' types.

    Args:
      *arrays: outside ``shard_map``, they come back as they are.

    Returns:
      The arrays.
    """
    axes = [_varying(array) for array in arrays]
    union = frozenset().union(*axes)
    return [
        lax.pcast(array, tuple(sorted(union - own)), to="varying") if union - own else array
        for array, own in zip(arrays, axes, strict=True)
    ]


def shape_like(
    array: jax.Array, shape: Sequence[int], dtype: jax.typing.DTypeLike
) -> jax.ShapeDtypeStruct:
    """The type of a kernel's result, which varies over the mesh axes that ``array`` varies over.

    Args:
      array: one of the kernel's arguments.
      shape: of the result.
      dtype: of the result.

    Returns:
      What Pallas takes as the type of a result.

    Example:
      >>> shape_like(jax.numpy.ones(3), (2, 4), "float32").shape
      (2, 4)
    """
    aval = jax.typeof(array)
    name = "manual_axis_type" if hasattr(aval, "manual_axis_type") else "vma"  # before JAX 0.10
    return jax.ShapeDtypeStruct(shape, dtype, **{name: getattr(aval, name)})


def _varying(array: jax.Array) -> frozenset[str]:
    aval = jax.typeof(array)
    manual = getattr(aval, "manual_axis_type", None)
    return frozenset(aval.vma if manual is None else manual.varying)
