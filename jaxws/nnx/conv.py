"""The locally connected counterpart of ``nnx.Conv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Num

from jaxws.core.local_kernels import LOCAL_KERNEL, MASKED_KERNEL
from jaxws.core.pooled import expand_pools
from jaxws.core.window import Padding, per_axis
from jaxws.layers.conv import per_position
from jaxws.layers.geometry import LayerGeometry
from jaxws.nnx.layer import LECUN_NORMAL, Layer, as_static, check_groups
from jaxws.nnx.sharing import Mask


class LocalConv(Layer):
    """Locally connected layer with the arguments of ``nnx.Conv`` (its injected functions aside).

    Parameters: ``local_kernel`` of shape (h, w, i, j, in_features / feature_group_count,
    out_features), and ``bias`` of shape (h, w, out_features), one per neuron, or (out_features,) if
    it is shared (the paper's layers have none: ``use_bias=False``). With a mask, the filters are
    named ``masked_local_kernel``, and the mask is a variable ``mask`` that is no parameter.

    Args:
      in_features: number of input channels c.
      out_features: number of output features f.
      kernel_size: one number per spatial axis: 1, 2 or 3 of them. An int means one axis.
      strides: an int, or one per spatial axis.
      image_size: (H, W) of the images, or likewise: there is a filter per output position.
      padding: as in :class:`jaxws.LocalConv`, like all that is not said here.
      input_dilation: as there.
      kernel_dilation: as there.
      feature_group_count: as there.
      block_size: as there.
      use_bias: as there.
      shared_bias: as there.
      mask: multiplied onto the kernel; must broadcast to its shape.
      dtype: as there.
      param_dtype: as there.
      precision: as there.
      kernel_init: of one position's filter, shape (i, j, c / feature_group_count, f); every
        position draws its own.
      bias_init: as there.
      preferred_element_type: as in :func:`jaxws.local_conv`.
      implementation: as there.
      rngs: where weights are drawn from.
      kernel_metadata: of the ``nnx.Param`` of the filters, such as ``out_sharding``.
      bias_metadata: of that of the bias.

    Raises:
      ValueError: as :func:`jaxws.local_conv`; images with another number of positions or channels
        than those that the layer was made for.

    Example:
      >>> layer = LocalConv(4, 8, (3, 3), strides=2, padding=1, image_size=(9, 9), rngs=nnx.Rngs(0))
      >>> layer.local_kernel.shape
      (5, 5, 3, 3, 4, 8)
      >>> layer(jnp.ones((16, 9, 9, 4))).shape
      (16, 5, 5, 8)
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
        input_dilation: int | Sequence[int] | None = 1,
        kernel_dilation: int | Sequence[int] | None = 1,
        feature_group_count: int = 1,
        block_size: int | Sequence[int] = 1,
        use_bias: bool = True,
        shared_bias: bool = False,
        mask: jax.Array | None = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: lax.PrecisionLike = None,
        kernel_init: Initializer = LECUN_NORMAL,
        bias_init: Initializer = nnx.initializers.zeros,
        preferred_element_type: Any = None,
        implementation: str | None = None,
        rngs: nnx.Rngs,
        kernel_metadata: Mapping[str, Any] | None = None,
        bias_metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.geometry = LayerGeometry(
            as_static(kernel_size),
            as_static(strides),
            as_static(padding),
            as_static(input_dilation),
            as_static(kernel_dilation),
            feature_group_count,
            as_static(block_size),
        )
        image = (*per_axis("image_size", image_size, self.geometry.ndim), in_features)
        shape = self.geometry.kernel_shape(image, out_features)
        check_groups(in_features, out_features, feature_group_count)
        draw = per_position(kernel_init, self.geometry.ndim)
        kernel = nnx.Param(draw(rngs.params(), shape, param_dtype), **(kernel_metadata or {}))
        self._name = LOCAL_KERNEL if mask is None else MASKED_KERNEL
        setattr(self, self._name, kernel)
        self.mask = nnx.data(None) if mask is None else Mask(jnp.asarray(mask))
        self.in_features, self.out_features = in_features, out_features
        init = bias_init if use_bias else None
        self._make_bias(init, image, shared_bias, param_dtype, rngs, bias_metadata)
        self.dtype, self.precision = dtype, precision
        self.preferred_element_type = preferred_element_type
        self.implementation = implementation

    def __call__(self, inputs: Num[Array, "*images C"]) -> Float[Array, "*outputs f"]:
        """Applies the layer to images (..., H, W, c); returns (..., h, w, f)."""
        return self._apply(
            inputs,
            self._filters(),
            dtype=self.dtype,
            implementation=self.implementation,
            precision=self.precision,
            preferred_element_type=self.preferred_element_type,
        )

    def _filters(self) -> Any:
        """Without those that a mask removes."""
        kernel = getattr(self, self._name)[...]
        if self.mask is None:
            return kernel
        kernel = expand_pools(kernel)
        return kernel * self.mask[...].astype(kernel.dtype)
