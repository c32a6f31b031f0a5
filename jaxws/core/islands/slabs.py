"""Cutting images and outputs into the parts that devices work on, and putting them together.

A part of the positions sees a slab of the image: its own pixels, and those around them that its
windows reach. Slabs overlap, which is all that is ever sent twice. In 1-D and 3-D likewise.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxws.core.implementations.spec import Spec
from jaxws.core.islands.layout import Layout
from jaxws.core.shapes import Images, Outputs

Parts = Float[Array, "parts *rest"]


def local_spec(spec: Spec, layout: Layout) -> Spec:
    """The layer as one part of the positions sees it, whose slab has its padding already.

    Args:
      spec: of the whole layer.
      layout: of its weights.

    Returns:
      A layer of fewer positions.
    """
    window = spec.window
    axes = range(len(window.output_size))
    split = [layout.parts(axis) > 1 for axis in axes]
    window = window._replace(
        input_size=tuple(
            _slab_length(spec, layout, axis) if split[axis] else window.input_size[axis]
            for axis in axes
        ),
        padding=tuple((0, 0) if split[axis] else window.padding[axis] for axis in axes),
        output_size=tuple(window.output_size[axis] // layout.parts(axis) for axis in axes),
    )
    return spec._replace(window=window)


def cut_images(x: Images, spec: Spec, layout: Layout) -> Parts:
    """Slabs of images, one for each part of the positions.

    Args:
      x: images, shape (H, W, c, n).
      spec: of the whole layer.
      layout: of its weights.

    Returns:
      Shape (parts, rows, columns, c, n).
    """
    window, cut = spec.window, x[None]
    for axis in range(len(window.output_size)):
        parts = layout.parts(axis)
        if parts == 1:
            continue
        length, step = _slab_length(spec, layout, axis), _slab_step(spec, layout, axis)
        low = window.padding[axis][0]
        high = max(0, (parts - 1) * step + length - low - window.input_size[axis])
        padding = [(low, high) if a == axis + 1 else (0, 0) for a in range(cut.ndim)]
        cut = jnp.pad(cut, padding)
        starts = range(0, parts * step, step)
        slabs = [lax.slice_in_dim(cut, s, s + length, axis=axis + 1) for s in starts]
        cut = jnp.stack(slabs, axis=1).reshape(-1, *slabs[0].shape[1:])
    return cut


def add_images(slabs: Parts, spec: Spec, layout: Layout) -> Images:
    """The transpose of :func:`cut_images`: pixels in several slabs get the sum of theirs.

    Args:
      slabs: shape (parts, rows, columns, c, n).
      spec: of the whole layer.
      layout: of its weights.

    Returns:
      Shape (H, W, c, n).
    """
    ndim = len(spec.window.input_size)
    shape = (*spec.window.input_size, *slabs.shape[ndim + 1 :])
    images = jax.ShapeDtypeStruct(shape, slabs.dtype)
    (added,) = jax.linear_transpose(lambda x: cut_images(x, spec, layout), images)(slabs)
    summed: Images = added
    return summed


def cut_outputs(y: Outputs, layout: Layout) -> Parts:
    """Parts of the positions.

    Args:
      y: shape (h, w, f, n).
      layout: of the weights.

    Returns:
      Shape (parts, h / parts, w / parts, f, n), each axis divided by its own number of parts.
    """
    ndim = len(layout.positions)
    split = []  # (parts of h, h / parts, parts of w, w / parts)
    for axis in range(ndim):
        split += [layout.parts(axis), y.shape[axis] // layout.parts(axis)]
    y = y.reshape(*split, *y.shape[ndim:])
    order = [*range(0, 2 * ndim, 2), *range(1, 2 * ndim, 2), *range(2 * ndim, y.ndim)]
    y = y.transpose(order)
    return y.reshape(-1, *y.shape[ndim:])


def join_outputs(parts: Parts, layout: Layout) -> Outputs:
    """The inverse of :func:`cut_outputs`.

    Args:
      parts: shape (parts, h / parts, w / parts, f, n).
      layout: of the weights.

    Returns:
      Shape (h, w, f, n).
    """
    ndim = len(layout.positions)
    counts = [layout.parts(axis) for axis in range(ndim)]
    y = parts.reshape(*counts, *parts.shape[1:])
    order = [a for axis in range(ndim) for a in (axis, ndim + axis)]
    y = y.transpose(*order, *range(2 * ndim, y.ndim))
    sizes = [c * s for c, s in zip(counts, parts.shape[1 : ndim + 1], strict=True)]
    return y.reshape(*sizes, *y.shape[2 * ndim :])


def _slab_step(spec: Spec, layout: Layout, axis: int) -> int:
    """Pixels from one slab to the next."""
    return spec.window.output_size[axis] // layout.parts(axis) * spec.window.strides[axis]


def _slab_length(spec: Spec, layout: Layout, axis: int) -> int:
    """Pixels that the positions of a part see."""
    window = spec.window
    last = _slab_step(spec, layout, axis) - window.strides[axis]
    return last + (window.kernel_size[axis] - 1) * window.dilation[axis] + 1
