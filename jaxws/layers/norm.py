"""BatchNorm and relu of a training step on a CPU, in half as many passes over memory.

They compute what Flax's do. On CPUs, XLA makes a pass of each of BatchNorm's sums, and of what is
multiplied for one; :mod:`jaxws.core.channel_sums` takes two sums in one pass.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxws.core import channel_sums


class BatchNorm(nn.BatchNorm):
    """:class:`flax.linen.BatchNorm`, whose sums over the batch are taken by C++ kernels.

    They are where it normalises by a batch in float32 or bfloat16, whose axes are (..., c, n), in a
    program of one CPU device (:func:`jaxws.core.channel_sums.is_supported`), and all rows count;
    Flax computes all else. Parameters, statistics and results are Flax's, up to rounding.
    Derivatives are of any order, in reverse mode.

    Example:
      >>> x = jnp.array([[0.0, 2.0]])  # one channel of two images
      >>> layer = BatchNorm(use_running_average=False, axis=-2, epsilon=0.0)
      >>> variables = layer.init(jax.random.key(0), x)
      >>> layer.apply(variables, x, mutable="batch_stats")[0].tolist()
      [[-1.0, 1.0]]
    """

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        use_running_average: bool | None = None,
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """As in Flax."""
        given, own = use_running_average, self.use_running_average
        average = nn.merge_param("use_running_average", own, given)
        if average or mask is not None or not self._has_kernels(x):
            result: jax.Array = super().__call__(x, use_running_average, mask=mask)
            return result
        shape = x.shape[-2:-1]
        scale = self.param("scale", self.scale_init, shape, self.param_dtype)
        bias = self.param("bias", self.bias_init, shape, self.param_dtype)
        y, mean, variance = normalise(x, scale, bias, self.epsilon)
        for name, value in (("mean", mean), ("var", variance)):
            running = self.variable("batch_stats", name, jnp.zeros, shape)
            if self.is_mutable_collection("batch_stats"):
                running.value = self.momentum * running.value + (1 - self.momentum) * value
        return y

    def _has_kernels(self, x: jax.Array) -> bool:
        return (
            not self.is_initializing()
            and self.axis in (-2, x.ndim - 2)
            and self.axis_name is None
            and self.use_bias
            and self.use_scale
            and self.param_dtype == jnp.float32
            and x.dtype == (self.dtype or x.dtype)
            and channel_sums.is_supported(x, x.dtype)
        )


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalise(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, by mean and variance of the batch.

    Args:
      x: shape (..., c, n), float32 or bfloat16.
      scale: shape (c,), float32.
      bias: likewise.
      epsilon: added to the variance.

    Returns:
      y like x, computed in float32 and rounded once; mean and biased variance of x, shape (c,).

    Example:
      >>> y, mean, variance = normalise(jnp.array([[0.0, 2.0]]), jnp.ones(1), jnp.ones(1), 0.0)
      >>> y.tolist(), mean.tolist(), variance.tolist()
      ([[0.0, 2.0]], [1.0], [1.0])
    """
    mean, variance = channel_sums.moments(x)
    gain = scale * lax.rsqrt(variance + epsilon)
    y = gain[:, None] * (_wide(x) - mean[:, None]) + bias[:, None]
    return y.astype(x.dtype), mean, variance


def _wide(array: jax.Array) -> jax.Array:
    return array.astype(jnp.float32)


class _Saved(NamedTuple):
    """For the gradient; x is there anyway, as the layer before keeps it."""

    x: jax.Array
    scale: jax.Array
    mean: jax.Array
    variance: jax.Array


def _forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], _Saved]:
    y, mean, variance = normalise(x, scale, bias, epsilon)
    return (y, mean, variance), _Saved(x, scale, mean, variance)


def _backward(
    epsilon: float, saved: _Saved, cotangents: tuple[jax.Array, jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale, mean, variance = saved
    dy, d_mean, d_variance = cotangents
    total, product = channel_sums.gradient_sums(x, dy, mean)
    count, inverse = x.size // x.shape[-2], lax.rsqrt(variance + epsilon)
    gain = scale * inverse
    # Of dx, what is the same for all numbers of a channel, and what goes with x - mean.
    constant = (d_mean - gain * total) / count
    slope = (2 * d_variance - gain * inverse**2 * product) / count
    distance = _wide(x) - mean[:, None]
    dx = gain[:, None] * _wide(dy) + constant[:, None] + slope[:, None] * distance
    return dx.astype(x.dtype), inverse * product, total


normalise.defvjp(_forward, _backward)


@jax.custom_jvp
def relu(x: jax.Array) -> jax.Array:
    """:func:`jax.nn.relu`, whose result is written to memory once.

    XLA may compute what is cheap anew for each operation that reads it. On CPUs it does so through
    whole chains of BatchNorm, shortcuts and relu, as every custom kernel is such a reader.

    Args:
      x: any array.

    Returns:
      An array like x.

    Example:
      >>> relu(jnp.array([-1.0, 2.0])).tolist()
      [0.0, 2.0]
    """
    y: jax.Array = lax.optimization_barrier(nn.relu(x))
    return y


@relu.defjvp
def _relu_derivative(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    y = relu(*primals)
    return y, jnp.where(y > 0, tangents[0], jnp.zeros_like(y))
