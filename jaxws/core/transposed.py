"""The transpose of a locally connected layer: each input position writes a patch of its own.

With the letters of :mod:`jaxws.core.local_conv`, for an image y of positions (h, w)::

    x[n, h * stride + i * dilation - low, ..., f] += sum_c y[n, h, w, c] * k[h, w, i, j, f, c]

It is the map by which a locally connected layer sends back errors, and the layer that a decoder or
a generative model needs: its weights are laid out as those of the layer that it transposes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxws.core.implementations.autodiff import contract_transposed
from jaxws.core.implementations.spec import Spec
from jaxws.core.local_conv import compute_dtype
from jaxws.core.local_kernels import accumulation_dtype
from jaxws.core.pooled import PooledKernel
from jaxws.core.shapes import AnyImages, AnyOutputs, Filters, NumpyFilters
from jaxws.core.window import Padding, Window, make_window, per_axis

_NAMES = ("SAME", "VALID")


def local_conv_transpose(
    x: AnyImages,
    local_kernel: Filters | NumpyFilters | PooledKernel,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    feature_group_count: int = 1,
    implementation: str | None = None,
    precision: lax.PrecisionLike = None,
    preferred_element_type: jax.typing.DTypeLike | None = None,
    batch_last: bool = False,
) -> AnyOutputs:
    """Writes a patch at every input position, by filters of its own: a transposed LC layer.

    With filters that are equal everywhere it is :func:`jax.lax.conv_transpose` with
    ``transpose_kernel=True``. It is computed by the kernels of :func:`jaxws.local_conv`, whose
    input gradient it is.

    Args:
      x: shape (n, h, w, c), or likewise in 1-D and 3-D.
      local_kernel: filters, shape (h, w, i, j, f / feature_group_count, c): those of a locally
        connected layer from f channels to c features.
      strides: distance in the result between patches of neighbouring positions.
      padding: as in :func:`jax.lax.conv_transpose`. ``'SAME'``: the result is ``strides`` times as
        large as x. ``'VALID'``: all that patches reach. Pairs (or an int) are what the strided
        input is padded by, one pair per spatial axis: where the patches span k pixels,
        ``k - 1`` keeps all of them, and PyTorch's ``padding=p`` is ``k - 1 - p``.
      dilation: distance between kernel offsets.
      feature_group_count: g; group q of c / g channels writes the q-th f / g features only.
      implementation: as in :func:`jaxws.local_conv`.
      precision: likewise.
      preferred_element_type: likewise.
      batch_last: x is (h, w, c, n), and so is the result.

    Returns:
      Shape (n, H, W, f); with ``batch_last``, (H, W, f, n).

    Raises:
      ValueError: as :func:`jaxws.local_conv`; a padding that leaves nothing of the patches.

    Example:
      >>> kernel = jnp.ones((8, 8, 3, 3, 16, 64))  # of an LC layer with stride 2 on 16 x 16 pixels
      >>> local_conv_transpose(jnp.ones((5, 8, 8, 64)), kernel, strides=2).shape
      (5, 16, 16, 16)
    """
    ndim = _check(x, local_kernel, feature_group_count, batch_last)
    compute = compute_dtype(x, local_kernel, implementation)
    result = jnp.dtype(preferred_element_type or compute)
    if result.itemsize > compute.itemsize:  # an input's gradient is of the kernel's dtype
        compute = result
    shape = local_kernel.shape
    window, around = transposed_window(
        shape[:ndim], shape[ndim : 2 * ndim], strides, padding, dilation
    )
    x = x if batch_last else jnp.moveaxis(x, 0, -1)
    images, kernel = jax.tree.map(lambda a: jnp.asarray(a).astype(compute), (x, local_kernel))
    spec = Spec(window, feature_group_count, accumulation_dtype(compute), compute, precision)
    y = contract_transposed(images, kernel, spec, implementation).astype(result)
    if any(pair != (0, 0) for pair in around):
        y = jnp.pad(y, [*around, (0, 0), (0, 0)])
    return y if batch_last else jnp.moveaxis(y, -1, 0)


def transposed_window(
    positions: Sequence[int],
    kernel_size: Sequence[int],
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
) -> tuple[Window, list[tuple[int, int]]]:
    """The layer whose transpose is meant, as in :func:`local_conv_transpose`.

    Args:
      positions: (h, w) of its input, or likewise in 1-D and 3-D.
      kernel_size: one number per spatial axis.
      strides: as there, like the others.
      padding: likewise.
      dilation: likewise.

    Returns:
      Its window, from the pixels that patches reach to the positions, and for each axis how many
      pixels lie beyond them, ``(before, after)``.

    Raises:
      ValueError: numbers of the wrong length or sign; a padding that leaves nothing.

    Example:
      >>> transposed_window((8, 8), (3, 3), strides=2)[0].input_size
      (16, 16)
    """
    ndim = len(positions)
    steps = per_axis("strides", strides, ndim)
    spread = per_axis("dilation", dilation, ndim)
    span = [(k - 1) * d + 1 for k, d in zip(kernel_size, spread, strict=True)]
    kept = _kept(padding, span, steps)
    reached = [(size - 1) * s + k for size, s, k in zip(positions, steps, span, strict=True)]
    # Of what patches reach, so much is cut off; where it is negative, zeros are added.
    cut = [(k - 1 - low, k - 1 - high) for k, (low, high) in zip(span, kept, strict=True)]
    total = [size - low - high for size, (low, high) in zip(reached, cut, strict=True)]
    crop = [(max(low, 0), max(high, 0)) for low, high in cut]
    inner = [size - low - high for size, (low, high) in zip(reached, crop, strict=True)]
    if min(total + inner) < 1:
        raise ValueError(
            f"padding={padding!r} leaves an image of size {tuple(total)} of what patches of"
            f" {tuple(span)} pixels at {tuple(positions)} positions reach: expected more."
        )
    window = make_window(inner, kernel_size, steps, crop, spread)
    return window, [(max(-low, 0), max(-high, 0)) for low, high in cut]


def _kept(padding: Padding, span: list[int], steps: tuple[int, ...]) -> list[tuple[int, int]]:
    """What the strided input is padded by, as ``(low, high)`` pairs."""
    if isinstance(padding, str):
        if padding.upper() not in _NAMES:
            raise ValueError(
                f"padding={padding!r}: expected 'SAME', 'VALID', an int or (low, high) pairs for a"
                " transposed layer."
            )
        return [
            (int(low), int(high))
            for low, high in (
                _named(padding.upper(), k, s) for k, s in zip(span, steps, strict=True)
            )
        ]
    # A window of one position of an image of one pixel reads pairs of all kinds.
    sizes = (1,) * len(span)
    return list(make_window(sizes, sizes, 1, padding).padding)


def _named(name: str, span: int, step: int) -> tuple[int, int]:
    """As :func:`jax.lax.conv_transpose` does, whose function for it is private."""
    total = span + step - 2
    if name == "VALID":
        return span - 1, total + max(span - step, 0) - (span - 1)
    low = span - 1 if step > span - 1 else -(-total // 2)
    return low, total - low


def _check(x: AnyImages, local_kernel: Any, groups: int, batch_last: bool) -> int:
    """The number of spatial axes of arrays that fit each other."""
    shape, ndim = local_kernel.shape, x.ndim - 2
    sizes = (*x.shape[:-2], x.shape[-2]) if batch_last else x.shape[1:]
    fits = (
        ndim in (1, 2, 3)
        and len(shape) == 2 * ndim + 2
        and (*shape[:ndim], shape[-1]) == tuple(sizes)
    )
    if not fits:
        raise ValueError(
            f"x has shape {x.shape} and local_kernel {shape}: expected (n, h, w, c) and (h, w, i,"
            " j, f / groups, c), or likewise in 1-D and 3-D, of the same h, w and c."
        )
    if groups < 1 or shape[-1] % groups or shape[-1] < 1:
        raise ValueError(
            f"feature_group_count={groups} does not divide {shape[-1]} input channels: choose a"
            " divisor."
        )
    return ndim
