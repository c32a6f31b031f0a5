"""The layer as one differentiable operation, whatever computes it.

The layer is linear in its image x and in its kernel, and so is the derivative in each of the two.
The three maps (x, kernel) -> y, (dy, kernel) -> dx and (x, dy) -> dkernel are each the derivative
of the other two, so three custom rules make reverse mode of any order exact, and nothing but x and
the kernel is kept between the forward and the backward pass. Forward mode (``jax.jvp``,
``jax.jacfwd``, ``jax.hessian``) has no custom rule in JAX that could be transposed: it needs
``"slices"`` or ``"patches"``, which are plain JAX.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from jaxws.implementations import choice, patches, slices
from jaxws.implementations.manual_axes import vary_alike
from jaxws.implementations.spec import Spec

PLAIN = {"slices": jax.checkpoint(slices.forward, static_argnums=2), "patches": patches.forward}
NAMES = (*PLAIN, *choice.BY_NAME)


def contract(x: jax.Array, kernel: jax.Array, spec: Spec, implementation: str | None) -> jax.Array:
    """y[h, w, f, n] = sum over i, j, c of x[h + i, w + j, c, n] * kernel[h, w, i, j, c, f].

    Args:
      x: images, shape (H, W, c, n), unpadded, of the dtype to compute in.
      kernel: filters, shape (h, w, i, j, c / groups, f), of the same dtype.
      spec: the geometry and dtypes of the layer.
      implementation: one of ``NAMES`` or None.

    Returns:
      y, shape (h, w, f, n), in ``spec.result``.

    Raises:
      ValueError: an implementation that cannot compute this layer.
    """
    if implementation in PLAIN:
        return PLAIN[implementation](x, kernel, spec)
    if implementation is not None:
        choice.check(implementation, spec, kernel.shape, x.shape[-1], x.dtype)
    x, kernel = vary_alike(x, kernel)
    return _forward(x, kernel, spec, implementation)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _forward(x, kernel, spec, implementation):
    return choice.run("forward", x, kernel, spec, implementation)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _input_gradient(dy, kernel, spec, implementation):
    return choice.run("input_gradient", dy, kernel, spec, implementation)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _kernel_gradient(x, dy, spec, implementation):
    return choice.run("kernel_gradient", x, dy, spec, implementation)


def _rule(function: Any, first: Callable, second: Callable) -> None:
    """Says that the derivatives of ``function(a, b)``, given its cotangent t, are these two."""
    function.defvjp(
        lambda a, b, *static: (function(a, b, *static), (a, b)),
        lambda spec, name, ab, t: (first(*ab, t, spec, name), second(*ab, t, spec, name)),
    )


_rule(
    _forward,
    lambda x, kernel, t, *static: _input_gradient(t, kernel, *static),
    lambda x, kernel, t, *static: _kernel_gradient(x, t, *static),
)
_rule(
    _input_gradient,
    lambda dy, kernel, t, *static: _forward(t, kernel, *static),
    lambda dy, kernel, t, *static: _kernel_gradient(t, dy, *static),
)
_rule(
    _kernel_gradient,
    lambda x, dy, t, *static: _input_gradient(dy, t, *static),
    lambda x, dy, t, *static: _forward(x, t, *static),
)
