"""Arrays of random numbers, and networks of such weights, that take nothing to compile.

JAX compiles a program for each shape, and the initialisers of a network as long as a step of it.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np


def normal(shape, seed=0):
    """Independent normal numbers in float32."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def drawn_variables(model, x, seed=0):
    """Variables that differ everywhere, as large as those of a network that has been trained.

    Those of BatchNorm that have to be are positive.
    """
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            values = rng.uniform(0.5, 1.5, leaf.shape)
        elif leaf.ndim == 1:
            values = rng.normal(0, 0.3, leaf.shape)
        else:
            values = rng.normal(0, math.sqrt(2 / math.prod(leaf.shape[-4:-1])), leaf.shape)
        return np.asarray(values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(model.init, jax.random.key(0), x))
