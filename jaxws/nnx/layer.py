"""What NNX layers have in common: arguments that are hashed, a bias, and how they apply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from flax import nnx
from jax.nn.initializers import Initializer

from jaxws.layers.geometry import LayerGeometry, TransposedGeometry

LECUN_NORMAL = nnx.initializers.lecun_normal()


class Layer(nnx.Module):
    """A layer with one filter per position, in whatever way its filters are made.

    Attributes:
      geometry: its shapes.
      out_features: number of output features f.
      bias: of ``geometry.bias_shape``, or None.
    """

    geometry: LayerGeometry | TransposedGeometry
    out_features: int
    bias: Any

    def _make_bias(
        self,
        init: Initializer | None,
        image_shape: Sequence[int],
        shared: bool,
        dtype: Any,
        rngs: nnx.Rngs,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Draws the bias by ``init``; there is none without."""
        self.bias = nnx.data(None)
        if init is not None:
            shape = self.geometry.bias_shape(image_shape, self.out_features, shared=shared)
            self.bias = nnx.Param(init(rngs.params(), shape, dtype), **(metadata or {}))

    def _apply(self, inputs: jax.Array, kernel: Any, **arguments: Any) -> jax.Array:
        """Applies filters (h, w, i, j, c / groups, f) to images (..., H, W, c)."""
        check_image(inputs, kernel.shape, self.geometry, self.out_features)
        bias = None if self.bias is None else self.bias[...]
        return self.geometry.apply(inputs, kernel, bias, **arguments)


def as_static(value: Any) -> Any:
    """A list in an argument as a tuple: what NNX keeps beside arrays is hashed.

    Example:
      >>> as_static([[0, 1], 2])
      ((0, 1), 2)
    """
    return tuple(map(as_static, value)) if isinstance(value, list | tuple) else value


def check_groups(in_features: int, out_features: int, groups: int) -> None:
    """Checks that groups divide channels and features, before weights of such a shape are drawn.

    Args:
      in_features: c.
      out_features: f.
      groups: ``feature_group_count``.

    Raises:
      ValueError: they do not.

    Example:
      >>> check_groups(6, 4, 2)
    """
    if groups < 1 or in_features % groups or out_features % groups:
        raise ValueError(
            f"feature_group_count={groups} does not divide in_features={in_features} and"
            f" out_features={out_features}: choose a common divisor."
        )


def check_image(
    inputs: jax.Array,
    shape: tuple[int, ...],
    geometry: LayerGeometry | TransposedGeometry,
    features: int,
) -> None:
    """Checks that a layer has filters for images of this size.

    Args:
      inputs: shape (..., H, W, c).
      shape: of the layer's filters.
      geometry: of the layer.
      features: f.

    Raises:
      ValueError: it has not.

    Example:
      >>> check_image(jax.numpy.ones((9, 9, 4)), (9, 9, 3, 3, 4, 8), LayerGeometry((3, 3)), 8)
    """
    needed = geometry.kernel_shape(inputs.shape[-geometry.ndim - 1 :], features)
    if shape != needed:
        raise ValueError(
            f"the layer has filters of shape {shape}, and images of shape {inputs.shape} need"
            f" {needed}, (h, w, i, j, c / groups, f) or likewise: a locally connected layer takes"
            " images of as many positions and channels as it was made for; see image_size."
        )
