"""What the locally connected layers of Linen and NNX have in common: shapes, and how they apply."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype

from jaxws.core.blocks import block_count
from jaxws.core.local_conv import local_conv
from jaxws.core.transposed import local_conv_transpose, transposed_window
from jaxws.core.window import Padding, Window, dilated_size, make_window, per_axis

Sizes = int | Sequence[int]


class _Geometry(ABC):
    """What layers of both kinds are applied by."""

    kernel_size: Sizes

    @property
    def ndim(self) -> int:
        """Number of spatial axes; a kernel size that is an int means one."""
        size = self.kernel_size
        return 1 if isinstance(size, int | np.integer) else len(size)

    def apply(
        self,
        x: jax.Array,
        kernel: Any,
        bias: jax.Array | None,
        *,
        dtype: Any = None,
        batch_last: bool = False,
        **arguments: Any,
    ) -> jax.Array:
        """The layer on images.

        Args:
          x: shape (..., H, W, c), or with ``batch_last`` (H, W, c, n).
          kernel: filters of the geometry's ``kernel_shape``, in any layout.
          bias: of its ``bias_shape``, or None.
          dtype: of the computation; None means the promoted dtype of all three.
          batch_last: where the batch is.
          **arguments: others of :func:`jaxws.local_conv`.

        Returns:
          y, shape (..., h, w, f), or with ``batch_last`` (h, w, f, n).
        """
        # Pooled kernels are pytrees; probes first, as the shape of the parameter is theirs.
        leaves, structure = jax.tree.flatten(kernel)
        x, bias, *leaves = promote_dtype(x, bias, *leaves, dtype=dtype)
        weights = jax.tree.unflatten(structure, leaves)

        def of_batch_last(x: jax.Array) -> jax.Array:
            y = self._compute(x, weights, arguments)
            return y if bias is None else y + bias[..., None]

        return of_batch_last(x) if batch_last else batch_first(of_batch_last, x, self.ndim)

    @abstractmethod
    def _compute(self, x: jax.Array, kernel: Any, arguments: dict[str, Any]) -> jax.Array:
        """The layer without its bias, on (H, W, c, n)."""


@dataclasses.dataclass(frozen=True)
class LayerGeometry(_Geometry):
    """A layer's geometry, and from it the shapes of its parameters on images of a size.

    Attributes:
      kernel_size: one number per spatial axis.
      strides: as in :func:`jaxws.local_conv`, like the others; None means 1.
      padding: likewise.
      input_dilation: likewise.
      kernel_dilation: its ``dilation``.
      feature_group_count: likewise.
      block_size: likewise.

    Example:
      >>> geometry = LayerGeometry((3, 3), strides=2, padding=1)
      >>> geometry.kernel_shape((9, 9, 4), features=8)
      (5, 5, 3, 3, 4, 8)
      >>> geometry.bias_shape((9, 9, 4), features=8, shared=False)
      (5, 5, 8)
    """

    kernel_size: Sizes
    strides: Sizes | None = 1
    padding: Padding = "SAME"
    input_dilation: Sizes | None = 1
    kernel_dilation: Sizes | None = 1
    feature_group_count: int = 1
    block_size: Sizes = 1

    def window(self, image_size: Sequence[int]) -> Window:
        """Positions of the layer, and what of the image each sees, after input dilation."""
        return make_window(
            dilated_size(image_size, self.input_dilation or 1),
            per_axis("kernel_size", self.kernel_size, self.ndim),
            self.strides or 1,
            self.padding,
            self.kernel_dilation or 1,
        )

    def kernel_shape(self, image_shape: Sequence[int], features: int) -> tuple[int, ...]:
        """Of the filters, from that of an image (H, W, c): (h, w, i, j, c / groups, f)."""
        window = self.window(image_shape[:-1])
        blocks = per_axis("block_size", self.block_size, self.ndim)
        channels = image_shape[-1] // max(self.feature_group_count, 1)
        filters = block_count(window.output_size, blocks)
        return (*filters, *window.kernel_size, channels, features)

    def bias_shape(
        self, image_shape: Sequence[int], features: int, *, shared: bool
    ) -> tuple[int, ...]:
        """Of the bias: (f,) if positions share it, else (h, w, f)."""
        positions = () if shared else self.window(image_shape[:-1]).output_size
        return (*positions, features)

    def _compute(self, x: jax.Array, kernel: Any, arguments: dict[str, Any]) -> jax.Array:
        y: jax.Array = local_conv(
            x,
            kernel,
            strides=self.strides or 1,
            padding=self.padding,
            dilation=self.kernel_dilation or 1,
            input_dilation=self.input_dilation or 1,
            feature_group_count=self.feature_group_count,
            block_size=self.block_size,
            batch_last=True,
            **arguments,
        )
        return y


@dataclasses.dataclass(frozen=True)
class TransposedGeometry(_Geometry):
    """A transposed layer's geometry, and from it the shapes of its parameters.

    Attributes:
      kernel_size: one number per spatial axis; an int means one axis.
      strides: as in :func:`jaxws.core.transposed.local_conv_transpose`, like the others; None
        means 1.
      padding: likewise.
      kernel_dilation: its ``dilation``.
      feature_group_count: likewise.

    Example:
      >>> geometry = TransposedGeometry((4, 4), strides=2)
      >>> geometry.kernel_shape((8, 8, 16), features=3)
      (8, 8, 4, 4, 3, 16)
      >>> geometry.bias_shape((8, 8, 16), features=3, shared=False)
      (16, 16, 3)
    """

    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] | None = 1
    padding: Padding = "SAME"
    kernel_dilation: int | Sequence[int] | None = 1
    feature_group_count: int = 1

    def kernel_shape(self, image_shape: Sequence[int], features: int) -> tuple[int, ...]:
        """Of the filters, from that of an input (h, w, c): (h, w, i, j, f / groups, c)."""
        groups = self.feature_group_count
        if groups < 1 or features % groups:
            raise ValueError(
                f"feature_group_count={groups} does not divide {features} features: choose a"
                " divisor."
            )
        sizes = per_axis("kernel_size", self.kernel_size, self.ndim)
        return (*image_shape[:-1], *sizes, features // groups, image_shape[-1])

    def bias_shape(
        self, image_shape: Sequence[int], features: int, *, shared: bool
    ) -> tuple[int, ...]:
        """Of the bias: (f,) if positions share it, else (H, W, f)."""
        if shared:
            return (features,)
        window, around = transposed_window(
            image_shape[:-1],
            per_axis("kernel_size", self.kernel_size, self.ndim),
            self.strides or 1,
            self.padding,
            self.kernel_dilation or 1,
        )
        pixels = zip(window.input_size, around, strict=True)
        return (*(size + sum(pair) for size, pair in pixels), features)

    def _compute(self, x: jax.Array, kernel: Any, arguments: dict[str, Any]) -> jax.Array:
        y: jax.Array = local_conv_transpose(
            x,
            kernel,
            strides=self.strides or 1,
            padding=self.padding,
            dilation=self.kernel_dilation or 1,
            feature_group_count=self.feature_group_count,
            batch_last=True,
            **arguments,
        )
        return y


def batch_first(apply: Callable[[jax.Array], jax.Array], inputs: jax.Array, ndim: int) -> jax.Array:
    """Applies a function of (H, W, c, n) to images with any number of batch axes in front.

    Args:
      apply: returns (h, w, f, n).
      inputs: shape (..., H, W, c); no batch axis means one image.
      ndim: number of spatial axes.

    Returns:
      Shape (..., h, w, f).

    Example:
      >>> batch_first(lambda x: 2 * x, jnp.ones((2, 5, 8, 8, 3)), ndim=2).shape
      (2, 5, 8, 8, 3)
    """
    batch = inputs.shape[: -ndim - 1]
    x = inputs.reshape(-1, *inputs.shape[-ndim - 1 :])
    y = apply(jnp.moveaxis(x, 0, -1))
    return jnp.moveaxis(y, -1, 0).reshape(*batch, *y.shape[:-1])
