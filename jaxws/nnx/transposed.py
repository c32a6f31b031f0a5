"""The locally connected counterpart of ``nnx.ConvTranspose``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Num

from jaxws.core.window import Padding, per_axis
from jaxws.layers.conv import per_position
from jaxws.layers.geometry import TransposedGeometry
from jaxws.layers.transposed import of_transposed
from jaxws.nnx.layer import LECUN_NORMAL, Layer, as_static


class LocalConvTranspose(Layer):
    """Transposed locally connected layer, as :class:`jaxws.layers.LocalConvTranspose`.

    Parameters, defaults and meaning are those of that layer.

    Args:
      in_features: number of input channels c.
      out_features: number of output features f.
      kernel_size: one number per spatial axis: 1, 2 or 3 of them. An int means one axis.
      strides: how many times larger the result is.
      image_size: (h, w) of the input, or likewise.
      padding: as there.
      kernel_dilation: as there.
      feature_group_count: as there.
      use_bias: as there.
      shared_bias: as there.
      dtype: as there.
      param_dtype: as there.
      precision: as there.
      kernel_init: as there.
      bias_init: as there.
      implementation: as there.
      rngs: where weights are drawn from.
      kernel_metadata: of the ``nnx.Param`` of the filters.
      bias_metadata: of that of the bias.

    Raises:
      ValueError: as :func:`jaxws.core.transposed.local_conv_transpose`; features that are no
        multiple of the groups.

    Example:
      >>> layer = LocalConvTranspose(
      ...     16, 3, (4, 4), strides=2, image_size=(8, 8), rngs=nnx.Rngs(0))
      >>> layer.local_kernel.shape, layer(jnp.ones((5, 8, 8, 16))).shape
      ((8, 8, 4, 4, 3, 16), (5, 16, 16, 3))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] | None = 1,
        *,
        image_size: int | Sequence[int],
        padding: Padding = "SAME",
        kernel_dilation: int | Sequence[int] | None = 1,
        feature_group_count: int = 1,
        use_bias: bool = True,
        shared_bias: bool = False,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: lax.PrecisionLike = None,
        kernel_init: Initializer = LECUN_NORMAL,
        bias_init: Initializer = nnx.initializers.zeros,
        implementation: str | None = None,
        rngs: nnx.Rngs,
        kernel_metadata: Mapping[str, Any] | None = None,
        bias_metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.geometry = TransposedGeometry(
            as_static(kernel_size),
            as_static(strides),
            as_static(padding),
            as_static(kernel_dilation),
            feature_group_count,
        )
        ndim = self.geometry.ndim
        image = (*per_axis("image_size", image_size, ndim), in_features)
        draw = per_position(of_transposed(kernel_init), ndim)
        shape = self.geometry.kernel_shape(image, out_features)
        kernel = draw(rngs.params(), shape, param_dtype)
        self.local_kernel = nnx.Param(kernel, **(kernel_metadata or {}))
        self.out_features = out_features
        init = bias_init if use_bias else None
        self._make_bias(init, image, shared_bias, param_dtype, rngs, bias_metadata)
        self.dtype, self.precision, self.implementation = dtype, precision, implementation

    def __call__(self, inputs: Num[Array, "*images C"]) -> Float[Array, "*outputs f"]:
        """Applies the layer to images (..., h, w, c); returns (..., H, W, f)."""
        return self._apply(
            inputs,
            self.local_kernel[...],
            dtype=self.dtype,
            implementation=self.implementation,
            precision=self.precision,
        )
