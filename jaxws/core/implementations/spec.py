"""What an implementation of the locally connected layer is asked for, and what it must offer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import lax

from jaxws.core.shapes import Images, Outputs
from jaxws.core.window import Window

# The fields of Implementation that compute something.
MAPS = ("forward", "input_gradient", "kernel_gradient")

Contraction = Callable[[jax.Array, jax.Array, "Spec"], jax.Array]


class Spec(NamedTuple):
    """Everything about a layer but its arrays; hashable, so that it can be static.

    Attributes:
      window: sizes, strides, padding and dilation, one entry per spatial axis.
      groups: number of feature groups g.
      accumulate: dtype that sums are kept in.
      result: dtype of y, and so of its cotangent dy.
      precision: of matrix products, as in :func:`jax.lax.dot_general`.
      filters: (p, q) of the kernel's gradient, where a filter that repeats over the positions gets
        the sum over all of its own; None for a gradient at every position.
      block: positions of a block along each axis, which have one filter; None for one each.
    """

    window: Window
    groups: int
    accumulate: np.dtype
    result: np.dtype
    precision: lax.PrecisionLike = None
    filters: tuple[int, ...] | None = None
    block: tuple[int, ...] | None = None

    def folding(self, filters: tuple[int, ...]) -> Spec:
        """The layer with a gradient of so many filters."""
        return self._replace(filters=None if filters == self.window.output_size else filters)


def error_line(error: Exception) -> str:
    r"""What a compiler, a driver or an import has raised, as one line that a reason can hold.

    Example:
      >>> error_line(RuntimeError("no such instruction\nand a long trace"))
      'RuntimeError: no such instruction'
    """
    detail = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {detail}"


def kernel_shape(x: Images, dy: Outputs, spec: Spec) -> tuple[int, ...]:
    """The kernel's shape (h, w, i, j, c / groups, f), from x (H, W, c, n) and dy (h, w, f, n).

    That of its gradient, with (p, q) in the place of (h, w) where ``spec.filters`` says so.
    """
    positions = spec.filters or spec.window.output_size
    return (*positions, *spec.window.kernel_size, x.shape[-2] // spec.groups, dy.shape[-2])


class Implementation(NamedTuple):
    """The layer and its two gradients, all in the layout that keeps the batch last.

    x and dx have shape (H, W, c, n), the kernel and its gradient (h, w, i, j, c / groups, f), y and
    dy (h, w, f, n), and likewise in 1-D and 3-D. Each is linear in both arrays, so that each is
    also the derivative of the other two.

    A kernel that is given may have fewer positions (p, q) than the layer: its filters repeat, and
    position (h, w) has filter (h mod p, w mod q). Its gradient is that of every position, unless
    the implementation ``folds``: then it is as ``spec.filters`` says, and it also takes kernels
    with a filter for each ``spec.block``.

    Attributes:
      forward: ``forward(x, kernel, spec)`` returns y in ``spec.result``.
      input_gradient: ``input_gradient(dy, kernel, spec)`` returns dx in the dtype of the kernel.
      kernel_gradient: ``kernel_gradient(x, dy, spec)`` returns the kernel's gradient in the dtype
        of x.
      unsupported_reason: ``unsupported_reason(spec, kernel_shape, batch, dtype)`` says what of a
        layer is not supported, or None.
      folds: whether it adds up by itself over positions that share a filter, repeated or in blocks.
    """

    forward: Contraction
    input_gradient: Contraction
    kernel_gradient: Contraction
    unsupported_reason: Callable[[Spec, Sequence[int], int, np.dtype], str | None]
    folds: bool = False
