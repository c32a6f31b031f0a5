"""The locally connected counterpart of ``nn.Conv``, a Linen module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jax import lax
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Num

from jaxws.core.local_conv import local_conv
from jaxws.core.local_kernels import LOCAL_KERNEL, MASKED_KERNEL
from jaxws.core.pooled import expand_pools
from jaxws.core.window import Padding, Window, make_window, per_axis

_MASKS = "masks"
_JNP_PAD_MODES = {"CIRCULAR": "wrap", "REFLECT": "reflect"}


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
    shape (h, w, f), one per neuron, which weight sharing leaves alone (the paper's layers have
    none). The number of positions (h, w) is that of the image given to ``init``; a later image with
    another number of them is a ValueError. (Images of 7 and of 8 pixels have the same 4 positions
    at stride 2 and padding 1: the layer takes both, as a convolution does.)

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
      use_bias: whether to add a bias per neuron.
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
    use_bias: bool = True
    mask: jax.Array | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32
    precision: Any = None
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros
    implementation: str | None = None
    batch_last: bool = False

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        size = self.kernel_size
        return 1 if isinstance(size, int | np.integer) else len(size)

    def window(self, image_size: Sequence[int]) -> Window:
        """The layer's geometry on images of a size; padding of any kind counts as padding."""
        kernel_size = per_axis("kernel_size", self.kernel_size, self.ndim)
        dilation = self.kernel_dilation or 1
        padding = _padding_pairs(kernel_size, self.padding, dilation)
        return make_window(image_size, kernel_size, self.strides or 1, padding, dilation)

    @nn.compact
    def __call__(self, inputs: Num[Array, "*images C"]) -> Float[Array, "*outputs f"]:
        """Applies the layer to images (..., H, W, c); returns (..., h, w, f)."""
        if self.batch_last:
            return self._apply(inputs)
        ndim = self.ndim
        batch = inputs.shape[: -ndim - 1]
        x = inputs.reshape(-1, *inputs.shape[-ndim - 1 :])
        y = self._apply(jnp.moveaxis(x, 0, -1))
        return jnp.moveaxis(y, -1, 0).reshape(*batch, *y.shape[:-1])

    def _kernel(self, shape: tuple[int, ...], window: Window) -> Any:
        """The filters, without those that a mask removes."""
        mask = self._mask()
        name = LOCAL_KERNEL if mask is None else MASKED_KERNEL
        given = nn.meta.unbox(self.get_variable("params", name))
        if given is not None and given.shape != shape:
            raise ValueError(
                f"layer {'/'.join(self.path)!r} has filters of shape {given.shape}, and an image of"
                f" size {window.input_size} needs {shape}, (h, w, i, j, c / groups, f) or likewise:"
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

    def _apply(self, x: Num[Array, "*pixels C n"]) -> Float[Array, "*positions f n"]:
        """Maps (H, W, c, n) to (h, w, f, n)."""
        ndim = self.ndim
        x = _dilate(x, self.input_dilation or 1)
        window = self.window(x.shape[:ndim])
        padding: Padding = window.padding
        if (mode := _pad_mode(self.padding)) is not None:
            x, padding = jnp.pad(x, [*window.padding, (0, 0), (0, 0)], mode=mode), 0
        channels = x.shape[-2] // max(self.feature_group_count, 1)
        shape = (*window.output_size, *window.kernel_size, channels, self.features)
        kernel = self._kernel(shape, window)
        bias = None
        if self.use_bias:
            bias_shape = (*window.output_size, self.features)
            bias = self.param("bias", self.bias_init, bias_shape, self.param_dtype)
        # Pooled kernels are pytrees; probes first, as the shape of the parameter is theirs.
        leaves, structure = jax.tree.flatten(kernel)
        x, bias, *leaves = promote_dtype(x, bias, *leaves, dtype=self.dtype)
        kernel = jax.tree.unflatten(structure, leaves)
        y = local_conv(
            x,
            kernel,
            strides=window.strides,
            padding=padding,
            dilation=window.dilation,
            feature_group_count=self.feature_group_count,
            implementation=self.implementation,
            precision=self.precision,
            batch_last=True,
        )
        return y if bias is None else y + bias[..., None]


def _dilate(x: Num[Array, "*_ C n"], dilation: int | Sequence[int]) -> Num[Array, "*_ C n"]:
    steps = per_axis("input_dilation", dilation, x.ndim - 2)
    if all(step == 1 for step in steps):
        return x
    interior = [(0, 0, step - 1) for step in steps]
    return lax.pad(x, jnp.zeros((), x.dtype), [*interior, (0, 0, 0), (0, 0, 0)])


def _pad_mode(padding: Padding) -> str | None:
    """``jnp.pad``'s name for a padding by something else than zeros."""
    return _JNP_PAD_MODES.get(padding.upper()) if isinstance(padding, str) else None


def _padding_pairs(
    kernel_size: tuple[int, ...], padding: Padding, dilation: int | Sequence[int]
) -> Padding:
    """Spells out the paddings that :func:`jaxws.local_conv` does not know."""
    is_causal = isinstance(padding, str) and padding.upper() == "CAUSAL"
    if not is_causal and _pad_mode(padding) is None:
        return padding
    dilations = per_axis("kernel_dilation", dilation, len(kernel_size))
    extra = [(k - 1) * d for k, d in zip(kernel_size, dilations, strict=True)]
    if not is_causal:
        return [(e // 2, e - e // 2) for e in extra]
    if len(kernel_size) != 1:
        raise ValueError(f"padding='CAUSAL' is for 1-D layers, not kernel size {kernel_size}.")
    return [(extra[0], 0)]
