"""Dynamic loss scaling: what keeps gradients within the range of float16.

Below 6e-5 float16 loses digits, and below 6e-8 it is zero; many gradients are that small. So the
loss is multiplied by a scale and the gradients are divided by it. A scale that is too large shows
itself by gradients that are not finite, and that step is left out. Scales are powers of two, so
that scaling rounds nothing.

The constants are those of PyTorch's ``GradScaler``, with two limits that it does not have. A scale
of 1 is the least: what is not finite without scaling has another reason, and the run diverges. And
it grows to 2**24 at most, which reaches gradients of 2**-48; where they are zero, it would become
infinite itself.

``flax.training.dynamic_scale`` has neither limit, wraps the gradient of a whole batch, where it may
be accumulated from parts, and looks for infinities in a pass over all gradients of its own; their
norm, which is measured anyway, shows them as well.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

INITIAL_SCALE = 2.0**16
LEAST_SCALE, LARGEST_SCALE = 1.0, 2.0**24
FACTOR = 2.0  # the scale grows by it, and shrinks
GROWTH_INTERVAL = 2000  # finite steps in a row after which it grows


class LossScale(NamedTuple):
    """A scale and how long it has lasted; part of the training state.

    Attributes:
      scale: the loss is multiplied by it; float32.
      steps: finite steps since it changed; int32.
    """

    scale: jax.Array
    steps: jax.Array


def initial_loss_scale(dtype: jax.typing.DTypeLike) -> LossScale | tuple[()]:
    """The scale that training starts from.

    Args:
      dtype: of activations.

    Returns:
      A scale for float16; for all others, whose range is that of float32, an empty pytree.

    Example:
      >>> float(initial_loss_scale("float16").scale), initial_loss_scale("bfloat16")
      (65536.0, ())
    """
    if jnp.dtype(dtype) != jnp.float16:
        return ()
    return LossScale(jnp.asarray(INITIAL_SCALE, jnp.float32), jnp.zeros((), jnp.int32))


def next_loss_scale(loss_scale: LossScale, finite: jax.Array) -> LossScale:
    """The scale after a step.

    Args:
      loss_scale: that of the step.
      finite: whether its gradients were; bool.

    Returns:
      Half of it if they were not; twice of it if they were in so many steps in a row; within
      limits.

    Example:
      >>> before = LossScale(jnp.asarray(1024.0), jnp.asarray(7))
      >>> after = next_loss_scale(before, jnp.asarray(False))
      >>> float(after.scale), int(after.steps)
      (512.0, 0)
    """
    scale, steps = loss_scale.scale, loss_scale.steps + 1
    grows = steps >= GROWTH_INTERVAL
    larger = jnp.minimum(scale * FACTOR, LARGEST_SCALE)
    smaller = jnp.maximum(scale / FACTOR, LEAST_SCALE)
    return LossScale(
        scale=jnp.where(finite, jnp.where(grows, larger, scale), smaller),
        steps=jnp.where(finite & ~grows, steps, 0),
    )
