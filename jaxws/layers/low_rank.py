"""Low-rank locally connected layers, a Linen module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Num

from jaxws.core.low_rank import combination_weights, low_rank_filters
from jaxws.core.window import Padding
from jaxws.layers.conv import per_position
from jaxws.layers.geometry import LayerGeometry


class LowRankConv(nn.Module):
    """Each position's filter is a combination of a few: :mod:`jaxws.core.low_rank`.

    As in the experiments of Elsayed et al. (ICML 2020) by default: combining weights are sums of a
    part for rows and one for columns, go through a softmax, and start equal, so that the layer
    starts as a convolution. Filters of all positions are made from the basis and given to
    :func:`jaxws.local_conv`, so that speed and memory are those of :class:`jaxws.LocalConv`, while
    parameters and optimizer are nearly those of a convolution times the rank.

    Parameters: ``basis`` of shape (rank, i, j, c / feature_group_count, f); ``combination_0``,
    ``combination_1``, ... of shape (h, rank), (w, rank), ..., or ``combination`` of (h, w, rank) if
    not separable; ``bias`` of shape (h, w, f), or (f,) if it is shared. There is no
    ``local_kernel``, so weight sharing does not see the layer.

    Attributes:
      features: number of output features f.
      kernel_size: as in :class:`jaxws.LocalConv`, like all that is not said here.
      rank: r, filters in the basis.
      separable: whether combining weights are sums over axes.
      normalise: whether they go through a softmax.
      strides: as there.
      padding: as there.
      input_dilation: as there.
      kernel_dilation: as there.
      feature_group_count: as there.
      use_bias: as there.
      shared_bias: as there.
      dtype: as there.
      param_dtype: as there.
      precision: as there.
      kernel_init: of one filter of the basis, shape (i, j, c / feature_group_count, f).
      combination_init: of the combining weights; None for equal ones: zeros under the softmax, else
        such that filters of positions have the variance of those of the basis.
      bias_init: as there.
      implementation: as there.

    Raises:
      ValueError: as :class:`jaxws.LocalConv`; a rank that is not positive.

    Example:
      >>> import jax
      >>> layer = LowRankConv(features=8, kernel_size=(3, 3), rank=2)
      >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 9, 7, 4)))
      >>> {name: leaf.shape for name, leaf in variables["params"].items() if name != "bias"}
      {'combination_0': (9, 2), 'combination_1': (7, 2), 'basis': (2, 3, 3, 4, 8)}
    """

    features: int
    kernel_size: int | Sequence[int]
    rank: int = 1
    separable: bool = True
    normalise: bool = True
    strides: int | Sequence[int] | None = 1
    padding: Padding = "SAME"
    input_dilation: int | Sequence[int] | None = 1
    kernel_dilation: int | Sequence[int] | None = 1
    feature_group_count: int = 1
    use_bias: bool = True
    shared_bias: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32
    precision: Any = None
    kernel_init: Initializer = nn.initializers.lecun_normal()
    combination_init: Initializer | None = None
    bias_init: Initializer = nn.initializers.zeros
    implementation: str | None = None

    @nn.compact
    def __call__(self, inputs: Num[Array, "*images C"]) -> Float[Array, "*outputs f"]:
        """Applies the layer to images (..., H, W, c); returns (..., h, w, f)."""
        geometry = LayerGeometry(
            self.kernel_size,
            self.strides,
            self.padding,
            self.input_dilation,
            self.kernel_dilation,
            self.feature_group_count,
        )
        ndim = geometry.ndim
        image = inputs.shape[-ndim - 1 :]
        shapes = combination_shapes(geometry, image, self.rank, self.separable)
        init = self.combination_init or equal_weights(self.normalise, len(shapes), self.rank)
        parts = [self.param(name, init, shape, self.param_dtype) for name, shape in shapes.items()]
        filter_shape = geometry.kernel_shape(image, self.features)[ndim:]
        basis_init = per_position(self.kernel_init, 1)
        basis = self.param("basis", basis_init, (self.rank, *filter_shape), self.param_dtype)
        bias = None
        if self.use_bias:
            shape = geometry.bias_shape(image, self.features, shared=self.shared_bias)
            bias = self.param("bias", self.bias_init, shape, self.param_dtype)
        combination = combination_weights(parts, normalise=self.normalise)
        kernel = low_rank_filters(basis, combination)
        return geometry.apply(
            inputs,
            kernel,
            bias,
            dtype=self.dtype,
            implementation=self.implementation,
            precision=self.precision,
        )


def equal_weights(normalise: bool, parts: int, rank: int) -> Initializer:
    """Where combining weights start if they are not told.

    Args:
      normalise: whether they go through a softmax.
      parts: arrays that are added up.
      rank: filters in the basis.

    Returns:
      An initialiser.

    Example:
      >>> float(equal_weights(False, parts=2, rank=4)(None, ()))  # 2 * 0.25 = 1 / sqrt(4)
      0.25
    """
    return nn.initializers.constant(0.0 if normalise else 1 / (parts * math.sqrt(rank)))


def combination_shapes(
    geometry: LayerGeometry, image_shape: Sequence[int], rank: int, separable: bool
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the combining weights.

    Args:
      geometry: of the layer.
      image_shape: (H, W, c), or likewise in 1-D and 3-D.
      rank: filters in the basis.
      separable: whether there is one array per axis.

    Returns:
      A dict from names to shapes.

    Raises:
      ValueError: a rank that is not positive.

    Example:
      >>> combination_shapes(LayerGeometry((3, 3)), (9, 7, 4), rank=2, separable=False)
      {'combination': (9, 7, 2)}
    """
    if rank < 1:
        raise ValueError(f"rank={rank}: expected a positive number of filters in the basis.")
    positions = geometry.window(image_shape[:-1]).output_size
    if not separable:
        return {"combination": (*positions, rank)}
    return {f"combination_{axis}": (size, rank) for axis, size in enumerate(positions)}
