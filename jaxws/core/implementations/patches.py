"""``"patches"``: the formula, read from left to right. The reference, and what Flax's layer does.

:func:`jax.lax.conv_general_dilated_patches` cuts the patches and one einsum contracts them, as
``flax.linen.ConvLocal`` does by :func:`jax.lax.conv_general_dilated_local`. It cuts by convolving
with one-hot filters, which costs more arithmetic than the layer itself.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import lax

from jaxws.core.implementations.spec import Spec
from jaxws.core.shapes import Filters, Images, Outputs


def forward(x: Images, kernel: Filters, spec: Spec) -> Outputs:
    """y (h, w, f, n) of x (H, W, c, n) and the kernel (h, w, i, j, c / groups, f)."""
    window, groups = spec.window, spec.groups
    ndim = len(window.kernel_size)
    axes = "DHW"[-ndim:]
    x = jnp.moveaxis(x, -1, 0)
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
        precision=spec.precision,
        preferred_element_type=spec.accumulate,
    )
    y = y.reshape(x.shape[0], *positions, groups * f).astype(spec.result)
    return jnp.moveaxis(y, 0, -1)
