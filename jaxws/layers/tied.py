"""Convolutions by the kernels of LC layers, where these are faster: with one filter for all.

To the C++ kernels of :func:`jaxws.local_conv` a filter that repeats over positions is as good as
one that does not, and on CPUs they take about half the time of XLA's convolutions. They work on
images whose batch comes last; :class:`jaxws.models.resnet.ResNet` keeps its activations so where
:func:`prefers_batch_last`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import lax

from jaxws.core.implementations.dispatch import default_name
from jaxws.core.local_conv import local_conv
from jaxws.core.partitioning import may_be_partitioned
from jaxws.core.pooled import PooledKernel
from jaxws.core.window import make_window

_DTYPES = ("float32", "float16", "bfloat16")


def prefers_batch_last(*arrays: jax.Array | np.ndarray) -> bool:
    """Whether :func:`tied_conv` has kernels of its own for images, which want the batch last.

    Args:
      *arrays: images of any layout, and maybe the filter.

    Returns:
      True on a CPU whose C++ kernels could be built, in programs of one device, for float32 and
      half precision.

    Example:
      >>> prefers_batch_last(jax.numpy.ones((1, 8, 8, 3), int))
      False
    """
    known = all(array.dtype.name in _DTYPES for array in arrays)
    if not known or may_be_partitioned(*arrays):
        return False
    return all(default_name(array.dtype) == "native" for array in arrays)


def tied_conv(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """:func:`jax.lax.conv_general_dilated` of images (n, H, W, c), as ``nn.Conv`` calls it.

    The kernels' own layout is (H, W, c, n). A program in which the caller has just made (n, H, W,
    c) of it, and makes it of the result, has no transposes: XLA cancels them.

    Args:
      lhs: images, shape (n, H, W, c), or (n, W, c) or (n, D, H, W, c).
      rhs: filter, shape (i, j, c / feature_group_count, f), or likewise.
      window_strides: as there, like all others.
      padding: likewise.
      lhs_dilation: likewise.
      rhs_dilation: likewise.
      dimension_numbers: the layouts above, which ``nn.Conv`` has.
      feature_group_count: likewise.
      precision: likewise.

    Returns:
      An array of shape (n, h, w, f), or likewise.

    Raises:
      ValueError: as :func:`jax.lax.conv_general_dilated` and :func:`jaxws.local_conv`.

    Example:
      >>> layer = nn.Conv(8, (3, 3), strides=2, padding=1, conv_general_dilated=tied_conv)
      >>> y, variables = layer.init_with_output(jax.random.key(0), jax.numpy.ones((16, 9, 9, 4)))
      >>> y.shape, variables["params"]["kernel"].shape
      ((16, 5, 5, 8), (3, 3, 4, 8))
    """
    is_dilated = any(step != 1 for step in lhs_dilation or ())
    if is_dilated or not prefers_batch_last(lhs, rhs):
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count,
            precision=precision,
        )
    ndim = lhs.ndim - 2
    dilation = tuple(rhs_dilation or (1,) * ndim)
    strides = tuple(window_strides)
    window = make_window(lhs.shape[1:-1], rhs.shape[:ndim], strides, padding, dilation)
    filters = rhs.reshape((1,) * ndim + rhs.shape)
    return local_conv(
        lhs,
        PooledKernel(filters, window.output_size),
        strides=strides,
        padding=padding,
        dilation=dilation,
        feature_group_count=feature_group_count,
        precision=precision,
    )


# One object, so that networks of equal settings are equal.
Conv = partial(nn.Conv, conv_general_dilated=tied_conv)
