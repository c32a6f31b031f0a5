r"""Locally connected convolution: a convolution whose filter differs at every output position.

With output position (h, w), kernel offset (i, j), input channel c and output feature f::

    y[n, h, w, f] = sum_{i, j, c} x[n, h * stride + i * dilation - low, ...] * k[h, w, i, j, c, f]

It does the arithmetic of a convolution and reads h * w times as many weights. The same function
serves 1, 2 and 3 spatial dimensions. What computes it is a file each in
:mod:`jaxws.core.implementations`; all give the same values and gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxws.core.blocks import block_count
from jaxws.core.implementations.autodiff import NAMES, contract
from jaxws.core.implementations.spec import Spec
from jaxws.core.local_kernels import accumulation_dtype, to_arrays
from jaxws.core.pooled import PooledKernel
from jaxws.core.shapes import AnyImages, AnyOutputs, Filters, NumpyFilters
from jaxws.core.window import (
    Padding,
    Window,
    continuation,
    dilate,
    dilated_size,
    make_window,
    per_axis,
)


def local_conv(
    x: AnyImages,
    local_kernel: Filters | NumpyFilters | PooledKernel,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    input_dilation: int | Sequence[int] = 1,
    block_size: int | Sequence[int] = 1,
    feature_group_count: int = 1,
    implementation: str | None = None,
    precision: lax.PrecisionLike = None,
    preferred_element_type: jax.typing.DTypeLike | None = None,
    batch_last: bool = False,
) -> AnyOutputs:
    """Applies a different filter at every output position (Sec. 2 of the paper: an LC layer).

    Args:
      x: images, shape (n, H, W, c); (n, W, c) or (n, D, H, W, c) for 1 or 3 spatial dimensions.
      local_kernel: filters, shape (h, w, i, j, c / feature_group_count, f), and likewise in 1-D and
        3-D. The kernel size is read from this shape, and (h, w) must be the output size, or with
        ``block_size`` the number of blocks. Weights that are equal within their pools may come as a
        :class:`jaxws.core.pooled.PooledKernel`.
      strides: distance between output positions in pixels, an int or one per spatial axis.
      padding: ``'SAME'``, ``'SAME_LOWER'`` or ``'VALID'`` as in XLA, ``'CIRCULAR'``, ``'REFLECT'``
        or ``'CAUSAL'`` (1-D) as in ``nn.Conv``, an int, or ``(low, high)`` pairs per spatial axis;
        PyTorch's padding of an odd kernel is the int ``(k - 1) // 2``.
      dilation: distance between kernel offsets in pixels, an int or one per spatial axis.
      input_dilation: zeros are put between pixels, so that neighbours lie so far apart, an int or
        one per spatial axis.
      block_size: b; all b x b positions of a block have one filter, so that the kernel has
        ceil(h / b) x ceil(w / b) of them; an int or one per spatial axis.
      feature_group_count: g; group q of c / g channels feeds the q-th f / g features only.
      implementation: a name out of :mod:`jaxws.core.implementations`, or None for the fastest on
        JAX's default backend. Programs for :mod:`jax.export` need ``'slices'``: JAX cannot
        serialise the kernels of others. Forward-mode differentiation (``jax.jvp``, ``jax.jacfwd``,
        ``jax.hessian``) needs ``'slices'``; under ``jax.jit``, all that JAX says of others is that
        it cannot apply it to a custom_vjp function.
      precision: passed to the matrix product, as in :func:`jax.lax.dot_general`.
      preferred_element_type: dtype of the result; None means the promoted dtype of the arguments.
        Products are always accumulated in float32 at least.
      batch_last: x is (H, W, c, n) and y (h, w, f, n), and likewise in 1-D and 3-D: the layout that
        implementations work in, so that a chain of layers needs no transposes in between.

    Returns:
      y, shape (n, h, w, f); with ``batch_last``, (h, w, f, n).

    Raises:
      ValueError: shapes that do not fit each other, a geometry without output, a dtype that is not
        a floating one, an unknown implementation.

    Example:
      >>> x = jnp.ones((8, 32, 32, 3))
      >>> kernel = jnp.ones((16, 16, 3, 3, 3, 64))
      >>> local_conv(x, kernel, strides=2, padding=1).shape
      (8, 16, 16, 64)
      >>> blocks = jnp.ones((4, 4, 3, 3, 3, 64))
      >>> local_conv(x, blocks, strides=2, padding=1, block_size=4).shape
      (8, 16, 16, 64)
    """
    ndim = _ndim(x, local_kernel, batch_last)
    image = x.shape[:-1] if batch_last else x.shape[1:]
    size = dilated_size(image[:-1], input_dilation)
    window = make_window(size, local_kernel.shape[ndim:-2], strides, padding, dilation)
    block = per_axis("block_size", block_size, ndim)
    _check(x, local_kernel, image[-1], window, block, feature_group_count)
    compute = compute_dtype(x, local_kernel, implementation)
    result = jnp.dtype(preferred_element_type or compute)
    x = x if batch_last else jnp.moveaxis(x, 0, -1)
    images, kernel = jax.tree.map(lambda a: jnp.asarray(a).astype(compute), (x, local_kernel))
    images = dilate(images, input_dilation)
    if (mode := continuation(padding)) is not None:
        images = jnp.pad(images, [*window.padding, (0, 0), (0, 0)], mode=mode)
        window = make_window(images.shape[:ndim], window.kernel_size, strides, 0, dilation)
    spec = Spec(window, feature_group_count, accumulation_dtype(compute), result, precision)
    if any(b > 1 for b in block):
        kernel, spec = to_arrays(kernel), spec._replace(block=block)
    y = contract(images, kernel, spec, implementation)
    return y if batch_last else jnp.moveaxis(y, -1, 0)


def compute_dtype(x: AnyImages, local_kernel: Any, implementation: str | None) -> np.dtype:
    """The promoted dtype of image and filters.

    Args:
      x: images.
      local_kernel: filters, in any layout.
      implementation: asked for, which is checked too.

    Returns:
      A floating dtype.

    Raises:
      ValueError: a dtype that is not a floating one, an unknown implementation.

    Example:
      >>> compute_dtype(jnp.ones((1, 4, 2)), jnp.ones((4, 1, 2, 3)), "slices")
      dtype('float32')
    """
    compute = jnp.result_type(x, *jax.tree.leaves(local_kernel))
    if not jnp.issubdtype(compute, jnp.floating):
        raise ValueError(
            f"x is {x.dtype} and local_kernel is {local_kernel.dtype}: expected floating dtypes;"
            " convert with .astype(jnp.float32)."
        )
    if implementation is not None and implementation not in NAMES:
        raise ValueError(f"implementation={implementation!r}: expected None or one of {NAMES}.")
    dtype: np.dtype = compute
    return dtype


def _ndim(x: AnyImages, local_kernel: Any, batch_last: bool) -> int:
    """Number of spatial axes."""
    ndim = x.ndim - 2
    if ndim not in (1, 2, 3):
        shapes = ("(H, W, c, n)", "(W, c, n)", "(D, H, W, c, n)")
        shapes = shapes if batch_last else ("(n, H, W, c)", "(n, W, c)", "(n, D, H, W, c)")
        raise ValueError(f"x has shape {x.shape}: expected {', '.join(shapes)}.")
    if local_kernel.ndim != 2 * ndim + 2:
        raise ValueError(
            f"local_kernel has shape {local_kernel.shape}: expected {2 * ndim + 2} axes, {ndim} of"
            f" output positions, {ndim} of kernel offsets, c / groups and f, for x of shape"
            f" {x.shape}."
        )
    return ndim


def _check(
    x: AnyImages,
    local_kernel: Any,
    channels: int,
    window: Window,
    block: tuple[int, ...],
    groups: int,
) -> None:
    features = local_kernel.shape[-1]
    if channels < 1:
        raise ValueError(f"x has shape {x.shape}: expected at least one channel.")
    if groups < 1 or channels % groups or features % groups:
        raise ValueError(
            f"feature_group_count={groups} does not divide {channels} input channels and"
            f" {features} features: choose a common divisor."
        )
    filters = block_count(window.output_size, block)
    expected = (*filters, *window.kernel_size, channels // groups, features)
    if local_kernel.shape != expected:
        blocks = f", blocks of {block}" if filters != window.output_size else ""
        raise ValueError(
            f"local_kernel has shape {local_kernel.shape}: expected {expected} for x of shape"
            f" {x.shape}, strides {window.strides}, padding {window.padding}, dilation"
            f" {window.dilation}{blocks} and {groups} groups."
        )
