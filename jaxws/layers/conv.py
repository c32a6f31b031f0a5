"""The locally connected counterpart of ``nn.Conv``, a Linen module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Num

from jaxws.core.local_kernels import LOCAL_KERNEL, MASKED_KERNEL
from jaxws.core.pooled import expand_pools
from jaxws.core.window import Padding, Window
from jaxws.layers.geometry import LayerGeometry

_MASKS = "masks"


def per_position(init: Initializer, ndim: int) -> Initializer:
    """Draws every position's filter independently by an initialiser made for convolutions.

    Fans are those of one filter. Counting the h * w positions as fan, as other frameworks do,
    would start the outputs sqrt(h * w) times too small.

    Args:
      init: initialiser of a filter of shape (i, j, c / groups, f).
      ndim: number of position axes in front of that shape.

    Returns:
      Initialiser of LC kernels of shape (h, w, i, j, c / groups, f). Names of mesh axes by
      ``nn.with_partitioning`` may be those of the filter, or of the whole kernel.

    Example:
      >>> init = per_position(nn.initializers.kaiming_normal(), ndim=2)
      >>> kernel = init(jax.random.key(0), (8, 8, 3, 3, 16, 32))
      >>> print(f"{kernel.var() * 3 * 3 * 16:.2f}")
      2.00
    """

    def initialize(
        key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32, out_sharding: Any = None
    ) -> Any:
        positions, filter_shape = shape[:ndim], shape[ndim:]
        keys = jax.random.split(key, math.prod(positions))
        filters: Any = jax.vmap(lambda k: init(k, filter_shape, dtype))(keys)
        # The array may come in a box that names mesh axes: nn.with_partitioning.
        filters = jax.tree.map(lambda leaf: leaf.reshape(shape), filters)
        if isinstance(filters, nn.Partitioned) and len(filters.names) == len(filter_shape):
            filters = filters.replace(names=(None,) * ndim + tuple(filters.names))
        return filters

    return initialize


class LocalConv(nn.Module):
    """Locally connected layer with the arguments of ``nn.Conv`` (its injected functions aside).

    Parameters: ``local_kernel`` of shape (h, w, i, j, c / feature_group_count, f), and ``bias`` of
    shape (h, w, f), one per neuron, or (f,) if it is shared, which weight sharing leaves alone (the
    paper's layers have none: ``use_bias=False``). The number of positions (h, w) is that of the
    image given to ``init``; a later image with another number of them is a ValueError. (Images of 7
    and of 8 pixels have the same 4 positions at stride 2 and padding 1: the layer takes both, as a
    convolution does.)

    With a mask, the filters are named ``masked_local_kernel`` and the mask is a variable of the
    collection ``masks``: ``share_weights(variables["params"], mask=variables["masks"])``.

    Attributes:
      features: number of output features f.
      kernel_size: one number per spatial axis: 1, 2 or 3 of them. An int means one axis.
      strides: an int, or one per spatial axis.
      padding: ``'SAME'``, ``'SAME_LOWER'``, ``'VALID'``, ``'CIRCULAR'``, ``'REFLECT'``,
        ``'CAUSAL'`` (1-D), an int, or per spatial axis an int or a (low, high) pair. PyTorch's
        padding of an odd kernel is ``(k - 1) // 2``, which differs from ``'SAME'`` at stride 2.
      input_dilation: zeros are put between pixels, as in ``nn.Conv``.
      kernel_dilation: distance between kernel offsets in pixels.
      feature_group_count: number of groups.
      block_size: b; each block of b x b positions has one filter, so that there are ceil(h / b) x
        ceil(w / b) of them: between an LC layer (1) and a convolution (the size of the image).
      use_bias: whether to add a bias.
      shared_bias: one bias per feature, as in a convolution, in place of one per neuron.
      mask: multiplied onto the kernel; must broadcast to its shape. ``init`` keeps it among the
        variables, and ``apply`` takes it from there where it is given.
      dtype: of the computation; None means the promoted dtype of input and parameters.
      param_dtype: of the parameters.
      precision: of the matrix product.
      kernel_init: initialiser of one position's filter, shape (i, j, c / feature_group_count, f);
        every position draws its own.
      bias_init: initialiser of the bias.
      implementation: as in :func:`jaxws.local_conv`.
      batch_last: images come and go as (H, W, c, n), as in :func:`jaxws.local_conv`.

    Raises:
      ValueError: as :func:`jaxws.local_conv`; an unknown padding.

    Example:
      >>> layer = LocalConv(features=8, kernel_size=(3, 3), strides=2, padding=1)
      >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 9, 9, 4)))
      >>> variables["params"]["local_kernel"].shape
      (5, 5, 3, 3, 4, 8)
      >>> layer.apply(variables, jnp.ones((16, 9, 9, 4))).shape
      (16, 5, 5, 8)
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] | None = 1
    padding: Padding = "SAME"
    input_dilation: int | Sequence[int] | None = 1
    kernel_dilation: int | Sequence[int] | None = 1
    feature_group_count: int = 1
    block_size: int | Sequence[int] = 1
    use_bias: bool = True
    shared_bias: bool = False
    mask: jax.Array | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32
    precision: Any = None
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros
    implementation: str | None = None
    batch_last: bool = False

    @property
    def geometry(self) -> LayerGeometry:
        """Strides, padding and the like, which tell the shapes of its parameters."""
        return LayerGeometry(
            self.kernel_size,
            self.strides,
            self.padding,
            self.input_dilation,
            self.kernel_dilation,
            self.feature_group_count,
            self.block_size,
        )

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return self.geometry.ndim

    def window(self, image_size: Sequence[int]) -> Window:
        """The layer's geometry on images of a size; padding of any kind counts as padding."""
        return self.geometry.window(image_size)

    @nn.compact
    def __call__(self, inputs: Num[Array, "*images C"]) -> Float[Array, "*outputs f"]:
        """Applies the layer to images (..., H, W, c); returns (..., h, w, f)."""
        geometry = self.geometry
        image = inputs.shape[:-1] if self.batch_last else inputs.shape[-geometry.ndim - 1 :]
        kernel = self._kernel(geometry.kernel_shape(image, self.features), image)
        bias = None
        if self.use_bias:
            shape = geometry.bias_shape(image, self.features, shared=self.shared_bias)
            bias = self.param("bias", self.bias_init, shape, self.param_dtype)
        return geometry.apply(
            inputs,
            kernel,
            bias,
            dtype=self.dtype,
            batch_last=self.batch_last,
            implementation=self.implementation,
            precision=self.precision,
        )

    def _kernel(self, shape: tuple[int, ...], image: tuple[int, ...]) -> Any:
        """The filters, without those that a mask removes."""
        mask = self._mask()
        name = LOCAL_KERNEL if mask is None else MASKED_KERNEL
        given = nn.meta.unbox(self.get_variable("params", name))
        if given is not None and given.shape != shape:
            raise ValueError(
                f"layer {'/'.join(self.path)!r} has filters of shape {given.shape}, and an image of"
                f" size {image[:-1]} needs {shape}, (h, w, i, j, c / groups, f) or likewise:"
                " a locally connected layer takes images with as many positions and channels as"
                " that of init."
            )
        init = per_position(self.kernel_init, self.ndim)
        kernel = self.param(name, init, shape, self.param_dtype)
        if mask is None:
            return kernel
        kernel = expand_pools(kernel)
        return kernel * jnp.asarray(mask).astype(kernel.dtype)

    def _mask(self) -> Any:
        """That of the variables; ``init`` puts it there."""
        if self.mask is not None and self.is_initializing():
            self.put_variable(_MASKS, MASKED_KERNEL, jnp.asarray(self.mask))
        kept: Any = self.get_variable(_MASKS, MASKED_KERNEL)
        return self.mask if kept is None else kept
