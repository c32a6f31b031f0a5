"""Strict promotion of dtypes in all tests, but for the code of others, which leans on it."""

import functools

import jax
import optax
from flax import linen as nn


def forbid_promotion():
    """Makes implicit promotion of dtypes an error, as long as the process lasts."""
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    # They subtract float32 means from half precision.
    for layer in (nn.BatchNorm, nn.LayerNorm):
        layer.__call__ = promoting(layer.__call__)
    # Its logits are float32 where queries are half precision.
    jax.nn.dot_product_attention = promoting(jax.nn.dot_product_attention)
    # Schedules and Adam's correction of its bias compute with the count of updates, an integer.
    optax.adamw = promoting_optimizer(optax.adamw)
    inject = optax.inject_hyperparams
    optax.inject_hyperparams = lambda factory: promoting_optimizer(inject(factory))


def promoting(function):
    """Lets a function promote dtypes."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        with jax.numpy_dtype_promotion("standard"):
            return function(*args, **kwargs)

    return call


def promoting_optimizer(factory):
    """Lets the transformations that a function of Optax makes promote dtypes."""

    @functools.wraps(factory)
    def make(*args, **kwargs):
        transformation = factory(*args, **kwargs)
        return type(transformation)(*map(promoting, transformation))

    return make
