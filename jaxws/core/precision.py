"""Which dtype sums are kept in."""

import jax
import jax.numpy as jnp
import numpy as np


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
