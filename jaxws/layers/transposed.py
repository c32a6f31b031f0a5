"""The locally connected counterpart of ``nn.ConvTranspose``, a Linen module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Num

from jaxws.core.local_kernels import LOCAL_KERNEL
from jaxws.core.window import Padding
from jaxws.layers.conv import per_position
from jaxws.layers.geometry import TransposedGeometry


def of_transposed(init: Initializer) -> Initializer:
    """Draws the filters of a transposed layer by an initialiser that counts them as inputs.

    Args:
      init: initialiser of a filter of shape (i, j, c / groups, f): c are inputs, f outputs.

    Returns:
      Initialiser of shape (i, j, f / groups, c), the transpose of that.

    Example:
      >>> init = of_transposed(nn.initializers.kaiming_normal())
      >>> kernel = init(jax.random.key(0), (3, 3, 128, 32))  # 32 channels in
      >>> print(f"{kernel.var() * 3 * 3 * 32:.1f}")
      2.0
    """

    def initialize(
        key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32, out_sharding: Any = None
    ) -> Any:
        drawn = init(key, (*shape[:-2], shape[-1], shape[-2]), dtype)
        swapped = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, -1, -2), drawn)
        if isinstance(swapped, nn.Partitioned):  # it names the axes of the array
            *others, c, f = swapped.names
            swapped = swapped.replace(names=(*others, f, c))
        return swapped

    return initialize


class LocalConvTranspose(nn.Module):
    """Transposed locally connected layer: each input position writes a patch by its own filters.

    The arguments are those of ``nn.ConvTranspose`` (its mask and injected functions aside). With
    equal filters everywhere it computes what that does with ``transpose_kernel=True``. It is the
    transpose, layer for layer, of a :class:`jaxws.LocalConv` with the same numbers, as an
    autoencoder's decoder is of its encoder.

    Parameters: ``local_kernel`` of shape (h, w, i, j, f / feature_group_count, c), for the (h, w)
    positions of its *input*, in which pools of weight sharing are counted; ``bias`` of shape (H, W,
    f), one per neuron, or (f,) if it is shared.

    Attributes:
      features: number of output features f.
      kernel_size: one number per spatial axis: 1, 2 or 3 of them. An int means one axis.
      strides: how many times larger the result is, an int or one per spatial axis.
      padding: ``'SAME'``, ``'VALID'``, an int or (low, high) pairs, as in
        :func:`jaxws.local_conv_transpose`.
      kernel_dilation: distance between kernel offsets.
      feature_group_count: number of groups.
      use_bias: whether to add a bias.
      shared_bias: one bias per feature in place of one per neuron.
      dtype: of the computation; None means the promoted dtype of input and parameters.
      param_dtype: of the parameters.
      precision: of the matrix product.
      kernel_init: initialiser of one position's filter, shape (i, j, c, f / feature_group_count),
        whose fans are those of ``nn.ConvTranspose``.
      bias_init: initialiser of the bias.
      implementation: as in :func:`jaxws.local_conv`.

    Raises:
      ValueError: as :func:`jaxws.local_conv_transpose`; another number of positions or channels
        than at ``init``; features that are no multiple of the groups.

    Example:
      >>> layer = LocalConvTranspose(features=3, kernel_size=(4, 4), strides=2)
      >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 8, 8, 16)))
      >>> variables["params"]["local_kernel"].shape
      (8, 8, 4, 4, 3, 16)
      >>> layer.apply(variables, jnp.ones((5, 8, 8, 16))).shape
      (5, 16, 16, 3)
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] | None = 1
    padding: Padding = "SAME"
    kernel_dilation: int | Sequence[int] | None = 1
    feature_group_count: int = 1
    use_bias: bool = True
    shared_bias: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32
    precision: Any = None
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros
    implementation: str | None = None

    @nn.compact
    def __call__(self, inputs: Num[Array, "*images C"]) -> Float[Array, "*outputs f"]:
        """Applies the layer to images (..., h, w, c); returns (..., H, W, f)."""
        geometry = TransposedGeometry(
            self.kernel_size,
            self.strides,
            self.padding,
            self.kernel_dilation,
            self.feature_group_count,
        )
        image = inputs.shape[-geometry.ndim - 1 :]
        shape = geometry.kernel_shape(image, self.features)
        given = nn.meta.unbox(self.get_variable("params", LOCAL_KERNEL))
        if given is not None and given.shape != shape:
            raise ValueError(
                f"layer {'/'.join(self.path)!r} has filters of shape {given.shape}, and an input of"
                f" shape {inputs.shape} needs {shape}, (h, w, i, j, f / groups, c) or likewise: a"
                " locally connected layer takes as many positions and channels as at init."
            )
        init = per_position(of_transposed(self.kernel_init), geometry.ndim)
        kernel = self.param(LOCAL_KERNEL, init, shape, self.param_dtype)
        bias = None
        if self.use_bias:
            bias_shape = geometry.bias_shape(image, self.features, shared=self.shared_bias)
            bias = self.param("bias", self.bias_init, bias_shape, self.param_dtype)
        return geometry.apply(
            inputs,
            kernel,
            bias,
            dtype=self.dtype,
            implementation=self.implementation,
            precision=self.precision,
        )
