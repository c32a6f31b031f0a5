"""Low-rank locally connected layers, an NNX module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Num

from jaxws.core.low_rank import combination_weights, low_rank_filters
from jaxws.core.window import Padding, per_axis
from jaxws.layers.conv import per_position
from jaxws.layers.geometry import LayerGeometry
from jaxws.layers.low_rank import combination_shapes, equal_weights
from jaxws.nnx.layer import LECUN_NORMAL, Layer, as_static, check_groups


class LowRankConv(Layer):
    """Each position's filter is a combination of a few, as :class:`jaxws.layers.LowRankConv`.

    Parameters, defaults and meaning are those of that layer.

    Args:
      in_features: number of input channels c.
      out_features: number of output features f.
      kernel_size: as in :class:`jaxws.nnx.LocalConv`, like all that is not said here.
      strides: as there.
      image_size: as there.
      rank: r, filters in the basis.
      separable: whether combining weights are sums over axes.
      normalise: whether they go through a softmax.
      padding: as there.
      input_dilation: as there.
      kernel_dilation: as there.
      feature_group_count: as there.
      use_bias: as there.
      shared_bias: as there.
      dtype: as there.
      param_dtype: as there.
      precision: as there.
      kernel_init: of one filter of the basis.
      combination_init: of the combining weights, or None for equal ones.
      bias_init: as there.
      implementation: as there.
      rngs: where weights are drawn from.

    Raises:
      ValueError: as :class:`jaxws.nnx.LocalConv`; a rank that is not positive.

    Example:
      >>> layer = LowRankConv(4, 8, (3, 3), image_size=(9, 7), rank=2, rngs=nnx.Rngs(0))
      >>> layer.basis.shape, layer(jnp.ones((5, 9, 7, 4))).shape
      ((2, 3, 3, 4, 8), (5, 9, 7, 8))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] | None = 1,
        *,
        image_size: int | Sequence[int],
        rank: int = 1,
        separable: bool = True,
        normalise: bool = True,
        padding: Padding = "SAME",
        input_dilation: int | Sequence[int] | None = 1,
        kernel_dilation: int | Sequence[int] | None = 1,
        feature_group_count: int = 1,
        use_bias: bool = True,
        shared_bias: bool = False,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: lax.PrecisionLike = None,
        kernel_init: Initializer = LECUN_NORMAL,
        combination_init: Initializer | None = None,
        bias_init: Initializer = nnx.initializers.zeros,
        implementation: str | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        self.geometry = LayerGeometry(
            as_static(kernel_size),
            as_static(strides),
            as_static(padding),
            as_static(input_dilation),
            as_static(kernel_dilation),
            feature_group_count,
        )
        ndim = self.geometry.ndim
        image = (*per_axis("image_size", image_size, ndim), in_features)
        shapes = combination_shapes(self.geometry, image, rank, separable)
        check_groups(in_features, out_features, feature_group_count)
        init = combination_init or equal_weights(normalise, len(shapes), rank)
        for name, shape in shapes.items():
            setattr(self, name, nnx.Param(init(rngs.params(), shape, param_dtype)))
        self.parts = tuple(shapes)
        shape = self.geometry.kernel_shape(image, out_features)
        basis_init = per_position(kernel_init, 1)
        self.basis = nnx.Param(basis_init(rngs.params(), (rank, *shape[ndim:]), param_dtype))
        self.normalise, self.out_features = normalise, out_features
        self._make_bias(bias_init if use_bias else None, image, shared_bias, param_dtype, rngs)
        self.dtype, self.precision, self.implementation = dtype, precision, implementation

    def __call__(self, inputs: Num[Array, "*images C"]) -> Float[Array, "*outputs f"]:
        """Applies the layer to images (..., H, W, c); returns (..., h, w, f)."""
        parts = [getattr(self, name)[...] for name in self.parts]
        combination = combination_weights(parts, normalise=self.normalise)
        kernel = low_rank_filters(self.basis[...], combination)
        return self._apply(
            inputs,
            kernel,
            dtype=self.dtype,
            implementation=self.implementation,
            precision=self.precision,
        )
