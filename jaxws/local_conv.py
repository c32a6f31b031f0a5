r"""Locally connected convolution: a convolution whose filter differs at every output position.

With output position (h, w), kernel offset (i, j), input channel c and output feature f::

    y[n, h, w, f] = sum_{i, j, c} x[n, h * stride + i * dilation - low, ...] * k[h, w, i, j, c, f]

It does the arithmetic of a convolution and reads h * w times as many weights. The same function
serves 1, 2 and 3 spatial dimensions. Two implementations compute it, to the same values and
gradients for finite images:

``"patches"`` follows the formula. :func:`jax.lax.conv_general_dilated_patches` cuts the patches and
one einsum contracts them. It cuts by convolving with one-hot filters, which costs more arithmetic
than the layer itself.

``"slices"``, the default, cuts the same patches as i * j shifted slices of the image, which costs
one copy, and contracts them by one batched matrix product whose batch is the positions. It works
in the layout (h, w, c, n): each position's patches are then one contiguous matrix of (i j c) rows
and n columns, and its filters one of (i j c) rows and f columns.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxws.precision import accumulation_dtype
from jaxws.window import Padding, Window, make_window

IMPLEMENTATIONS = ("slices", "patches")


def local_conv(
    x: jax.Array,
    local_kernel: jax.Array,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    feature_group_count: int = 1,
    implementation: str | None = None,
    precision: lax.PrecisionLike = None,
    preferred_element_type: jax.typing.DTypeLike | None = None,
) -> jax.Array:
    """Applies a different filter at every output position (Sec. 2 of the paper: an LC layer).

    Args:
      x: images, shape (n, H, W, c); (n, W, c) or (n, D, H, W, c) for 1 or 3 spatial dimensions.
      local_kernel: filters, shape (h, w, i, j, c / feature_group_count, f), and likewise in 1-D and
        3-D. The kernel size is read from this shape, and (h, w) must be the output size.
      strides: distance between output positions in pixels, an int or one per spatial axis.
      padding: ``'SAME'`` or ``'VALID'`` as in XLA, an int, or ``(low, high)`` pairs per spatial
        axis; PyTorch's padding of an odd kernel is the int ``(k - 1) // 2``.
      dilation: distance between kernel offsets in pixels, an int or one per spatial axis.
      feature_group_count: g; group q of c / g channels feeds the q-th f / g features only.
      implementation: ``'slices'``, ``'patches'`` or None for the fastest on this platform.
      precision: passed to the matrix product, as in :func:`jax.lax.dot_general`.
      preferred_element_type: dtype of the result; None means the promoted dtype of the arguments.
        Products are always accumulated in float32 at least.

    Returns:
      y, shape (n, h, w, f).

    Raises:
      ValueError: shapes that do not fit each other, a geometry without output, a dtype that is not
        a floating one, an unknown implementation.

    Example:
      >>> x = jnp.ones((8, 32, 32, 3))
      >>> kernel = jnp.ones((16, 16, 3, 3, 3, 64))
      >>> local_conv(x, kernel, strides=2, padding=1).shape
      (8, 16, 16, 64)
    """
    window = _check(x, local_kernel, strides, padding, dilation, feature_group_count)
    compute = jnp.result_type(x, local_kernel)
    if not jnp.issubdtype(compute, jnp.floating):
        raise ValueError(
            f"x is {x.dtype} and local_kernel is {local_kernel.dtype}: expected floating dtypes;"
            " convert with .astype(jnp.float32)."
        )
    contract = {"slices": _slices, "patches": _patches}.get(implementation or "slices")
    if contract is None:
        raise ValueError(
            f"implementation={implementation!r}: expected None or one of {IMPLEMENTATIONS}."
        )
    y = contract(
        x.astype(compute),
        local_kernel.astype(compute),
        window,
        feature_group_count,
        precision,
        accumulation_dtype(compute),
    )
    return y.astype(preferred_element_type or compute)


def _check(x, local_kernel, strides, padding, dilation, groups) -> Window:
    ndim = x.ndim - 2
    if ndim not in (1, 2, 3):
        raise ValueError(
            f"x has shape {x.shape}: expected (n, H, W, c), (n, W, c) or (n, D, H, W, c)."
        )
    if local_kernel.ndim != 2 * ndim + 2:
        raise ValueError(
            f"local_kernel has shape {local_kernel.shape}: expected {2 * ndim + 2} axes, {ndim} of"
            f" output positions, {ndim} of kernel offsets, c / groups and f, for x of shape"
            f" {x.shape}."
        )
    positions, kernel_size = local_kernel.shape[:ndim], local_kernel.shape[ndim : 2 * ndim]
    window = make_window(x.shape[1:-1], kernel_size, strides, padding, dilation)
    channels, features = x.shape[-1], local_kernel.shape[-1]
    if channels < 1:
        raise ValueError(f"x has shape {x.shape}: expected at least one channel.")
    if groups < 1 or channels % groups or features % groups:
        raise ValueError(
            f"feature_group_count={groups} does not divide {channels} input channels and"
            f" {features} features: choose a common divisor."
        )
    expected = (*window.output_size, *kernel_size, channels // groups, features)
    if (*positions, *local_kernel.shape[ndim:]) != expected:
        raise ValueError(
            f"local_kernel has shape {local_kernel.shape}: expected {expected} for x of shape"
            f" {x.shape}, strides {window.strides}, padding {window.padding}, dilation"
            f" {window.dilation} and {groups} groups."
        )
    return window


def _patches(x, kernel, window, groups, precision, accumulate):
    """The formula, read from left to right: patches, then one sum over (i, j, c)."""
    ndim = len(window.kernel_size)
    axes = "DHW"[-ndim:]
    patches = lax.conv_general_dilated_patches(
        x,
        filter_shape=window.kernel_size,
        window_strides=window.strides,
        padding=window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        precision=lax.Precision.HIGHEST,  # a copy: no rounding, whatever the matrix unit prefers
    )
    positions, offsets = window.output_size, math.prod(window.kernel_size)
    size = math.prod(positions)
    # Patches list their entries channel-major: (c, i, j). Output position p = (h, w), offset o.
    c, f = x.shape[-1] // groups, kernel.shape[-1] // groups
    patches = patches.reshape(x.shape[0], size, groups, c, offsets)
    kernel = kernel.reshape(size, offsets, c, groups, f)
    y = jnp.einsum(
        "npgco,pocgf->npgf",
        patches,
        kernel,
        precision=precision,
        preferred_element_type=accumulate,
    )
    return y.reshape(x.shape[0], *positions, groups * f)


def _slices(x, kernel, window, groups, precision, accumulate):
    """Shifted slices, stacked over kernel offsets, in front of one batched matrix product."""
    ndim = len(window.kernel_size)
    # Widened while it is cut: the gradient of an image adds up one term per offset.
    compute, x = x.dtype, x.astype(accumulate)
    x = jnp.moveaxis(x, 0, -1)  # (H, W, c, n)
    x = jnp.pad(x, (*window.padding, (0, 0), (0, 0)))
    channels, batch = x.shape[-2:]
    slices = []
    for offset in itertools.product(*map(range, window.kernel_size)):
        start = [i * d for i, d in zip(offset, window.dilation, strict=True)]
        limit = [
            i + (size - 1) * s + 1
            for i, size, s in zip(start, window.output_size, window.strides, strict=True)
        ]
        slices.append(
            lax.slice(x, (*start, 0, 0), (*limit, channels, batch), (*window.strides, 1, 1))
        )
    # Grouped channels become a batch axis: (h, w, offset, g, c / g, n) against
    # (h, w, offset, c / g, g, f / g).
    positions, c, f = window.output_size, channels // groups, kernel.shape[-1] // groups
    patches = jnp.stack(slices, axis=ndim).astype(compute)
    patches = patches.reshape(*positions, len(slices), groups, c, batch)
    kernel = kernel.reshape(*positions, len(slices), c, groups, f)
    spatial = tuple(range(ndim))
    y = lax.dot_general(
        kernel,
        patches,
        dimension_numbers=(
            ((ndim, ndim + 1), (ndim, ndim + 2)),
            ((*spatial, ndim + 2), (*spatial, ndim + 1)),
        ),
        precision=precision,
        preferred_element_type=accumulate,
    )  # (h, w, g, f / g, n)
    y = y.reshape(*positions, groups * f, batch)
    return jnp.moveaxis(y, -1, 0)
