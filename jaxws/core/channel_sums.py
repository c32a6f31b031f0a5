"""What BatchNorm sums over images and positions: C++ kernels for CPUs, as plain JAX elsewhere.

Arrays are (..., c, n), with the batch last, as the layers' kernels have them. On a CPU XLA makes a
pass over memory of each sum, and writes what it multiplies for one; and it widens bfloat16 into a
copy in float32 first. See jaxws/core/native/channel_sums.cc. Sums are float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxws.core.implementations import native
from jaxws.core.implementations.dispatch import default_name
from jaxws.core.implementations.manual_axes import vary_alike
from jaxws.core.partitioning import may_be_partitioned

_DTYPES = ("float32", "bfloat16")


def is_supported(array: jax.Array | np.ndarray, dtype: jax.typing.DTypeLike) -> bool:
    """Whether the kernels are used: float32 or bfloat16, in a program of one CPU device.

    Args:
      array: traced or not, of the program.
      dtype: of what is summed.

    Example:
      >>> is_supported(jnp.ones((4, 4, 3, 8)), "float16")
      False
    """
    return (
        jnp.dtype(dtype).name in _DTYPES
        and array.size > 0
        and not may_be_partitioned(array)
        and default_name(dtype) == "native"
    )


@jax.custom_vjp
def moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of every channel, over all images and positions.

    The variance is that of the distances from one of the numbers: a mean that is large against it
    costs no digits.

    Args:
      x: shape (..., c, n), float32 or bfloat16.

    Returns:
      Mean and biased variance, shape (c,), float32.

    Example:
      >>> mean, variance = moments(jnp.array([[1.0, 3.0], [5.0, 5.0]]))
      >>> mean.tolist(), variance.tolist()
      ([2.0, 5.0], [1.0, 0.0])
    """
    mean, variance = _run("moments", _plain_moments, x)
    return mean, variance


@jax.custom_vjp
def gradient_sums(x: jax.Array, dy: jax.Array, mean: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sums over images and positions of a gradient, and of it times x - mean.

    Args:
      x: shape (..., c, n), float32 or bfloat16.
      dy: likewise.
      mean: shape (c,), float32.

    Returns:
      Two arrays of shape (c,), float32.

    Example:
      >>> x, dy = jnp.array([[1.0, 3.0]]), jnp.array([[10.0, 20.0]])
      >>> [a.tolist() for a in gradient_sums(x, dy, jnp.array([2.0]))]
      [[30.0], [10.0]]
    """
    total, product = _run("gradient_sums", _plain_sums, x, dy, mean)
    return total, product


def _run(name: str, plain: Callable[..., list[jax.Array]], *arrays: jax.Array) -> list[jax.Array]:
    if not is_supported(arrays[0], arrays[0].dtype):
        return plain(*arrays)
    suffix = native.BFLOAT16 if arrays[0].dtype == jnp.bfloat16 else ""

    def kernel(*arrays: jax.Array) -> list[jax.Array]:
        sums = jax.ShapeDtypeStruct(arrays[0].shape[-2:-1], jnp.float32)
        call = jax.ffi.ffi_call(
            native.target(name + suffix), [sums, sums], vmap_method="sequential"
        )
        return [vary_alike(arrays[0], result)[1] for result in call(*arrays)]

    results: list[jax.Array] = lax.platform_dependent(*arrays, cpu=kernel, default=plain)
    return results


def _plain_moments(x: jax.Array) -> list[jax.Array]:
    axes = (*range(x.ndim - 2), x.ndim - 1)
    x = x.astype(jnp.float32)
    return [x.mean(axes), x.var(axes)]


def _plain_sums(x: jax.Array, dy: jax.Array, mean: jax.Array) -> list[jax.Array]:
    axes = (*range(x.ndim - 2), x.ndim - 1)
    x, dy = (a.astype(jnp.float32) for a in (x, dy))
    return [dy.sum(axes), (dy * (x - mean[:, None])).sum(axes)]


def _rule(sums: Any, plain: Callable[..., list[jax.Array]]) -> None:
    """Says that the derivative is that of plain JAX, and so of any order."""
    sums.defvjp(
        lambda *arrays: (sums(*arrays), arrays),
        lambda arrays, t: jax.vjp(plain, *arrays)[1](list(t)),
    )


_rule(moments, _plain_moments)
_rule(gradient_sums, _plain_sums)
