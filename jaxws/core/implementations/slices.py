"""``"slices"``: shifted slices of the image, stacked, in front of one batched matrix product.

The patches of all positions are i * j slices of the padded image, shifted against each other, one
per kernel offset. Stacked, they are for each position one contiguous matrix of (i j c) rows and n
columns, and its filters one of (i j c) rows and f columns::

    y[h, w, f, n] = sum_{(i j c)} kernel[h, w, (i j c), f] * patches[h, w, (i j c), n]

Plain ``jax.numpy``: it runs on every platform, under every transformation, forward mode included,
and XLA partitions it over a mesh. It is also the only implementation here that must write the
patches to memory, i * j times the image: XLA's matrix products read whole arrays. The gradients
cut them anew, so that no patches are kept between the forward and the backward pass.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxws.core.implementations.manual_axes import vary_alike
from jaxws.core.implementations.spec import Implementation, Spec, kernel_shape
from jaxws.core.pools import spread_pools
from jaxws.core.shapes import Filters, Images, Outputs, PoolFilters


def forward(x: Images, kernel: PoolFilters, spec: Spec) -> Outputs:
    """y (h, w, f, n) of x (H, W, c, n) and the kernel (h, w, i, j, c / groups, f)."""
    window, groups = spec.window, spec.groups
    kernel = spread_pools(kernel, window.output_size)
    ndim = len(window.kernel_size)
    # Widened while it is cut: the gradient of an image adds up one term per offset.
    compute, x = x.dtype, x.astype(spec.accumulate)
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
        precision=spec.precision,
        preferred_element_type=spec.accumulate,
    )  # (h, w, g, f / g, n)
    return y.reshape(*positions, groups * f, batch).astype(spec.result)


def input_gradient(dy: Outputs, kernel: PoolFilters, spec: Spec) -> Images:
    """dx (H, W, c, n) of dy (h, w, f, n): the transpose of ``forward`` in x."""
    return transpose(lambda x: forward(x, kernel, spec), kernel, dy, spec)


def kernel_gradient(x: Images, dy: Outputs, spec: Spec) -> Filters:
    """The gradient (h, w, i, j, c / groups, f) of the kernel: the transpose in the kernel."""
    kernel = jnp.zeros(kernel_shape(x, dy, spec), x.dtype)
    return _transpose(lambda k: forward(x, k, spec), kernel, dy)


def transpose(
    function: Callable[[jax.Array], jax.Array], kernel: PoolFilters, dy: Outputs, spec: Spec
) -> Images:
    """The transpose of a layer in its image.

    Args:
      function: from x (H, W, c, n) to y (h, w, f, n).
      kernel: its filters.
      dy: like y.
      spec: geometry and dtypes.

    Returns:
      dx, in the dtype of the kernel.
    """
    channels = kernel.shape[-2] * spec.groups
    x = jnp.zeros((*spec.window.input_size, channels, dy.shape[-1]), kernel.dtype)
    return _transpose(function, x, dy)


def _transpose(
    function: Callable[[jax.Array], jax.Array], zeros: Float[Array, "*shape"], dy: Outputs
) -> Float[Array, "*shape"]:
    """The transpose of a linear function, which is its derivative's anywhere.

    ``jax.linear_transpose`` does not know over which axes of a mesh an argument varies.
    """
    _, pull_back = jax.vjp(function, vary_alike(dy, zeros)[1])
    transposed: jax.Array = pull_back(dy)[0]
    return transposed


SLICES = Implementation(
    forward, input_gradient, kernel_gradient, lambda spec, shape, batch, dtype: None
)
