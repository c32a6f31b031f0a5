"""How weights start: the paper's choices, which are those of PyTorch (appendix B)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import variance_scaling


def conv_init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Kaiming normal with ReLU gain, fan-out: N(0, 2 / (c_out k^2)) (appendix B).

    The draws of ``variance_scaling(2.0, "fan_out", "normal")``, up to its rounding, which differs
    between versions of JAX. They are drawn as a vector: for arrays of many axes, as one has of all
    positions, XLA takes eight times as long to compile the generator.

    Args:
      key: random key.
      shape: (i, j, c, f).
      dtype: of the weights.

    Returns:
      Weights of that shape.

    Example:
      >>> print(f"{conv_init(jax.random.key(0), (3, 3, 64, 64)).var() * 3 * 3 * 64:.1f}")
      2.0
    """
    fan_out = math.prod(shape[:-2]) * shape[-1]
    scale = jnp.sqrt(jnp.asarray(2 / fan_out, dtype))
    return (jax.random.normal(key, (math.prod(shape),), dtype) * scale).reshape(shape)


# PyTorch's default for a linear layer, U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)): the paper keeps it.
HEAD_INIT = variance_scaling(1 / 3, "fan_in", "uniform")


def uniform(bound: float) -> nn.initializers.Initializer:
    """Uniform draws, as PyTorch has them for the bias of a linear layer.

    Args:
      bound: draws lie in [-bound, bound).

    Returns:
      An initialiser.

    Example:
      >>> bool(abs(uniform(0.5)(jax.random.key(0), (9,))).max() <= 0.5)
      True
    """

    def init(key, shape, dtype=jnp.float32, out_sharding=None):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
