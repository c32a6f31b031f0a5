"""The locally connected counterpart of ``nnx.Linear``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import Initializer

from jaxws.nnx.conv import LocalConv
from jaxws.nnx.layer import LECUN_NORMAL


class LocalDense(LocalConv):
    """Linear layer with separate weights per token (appendix A.4), as ``nnx.Linear`` without tying.

    Parameters: ``local_kernel`` of shape (t, 1, in_features, out_features), that of a 1-D layer
    with kernel size 1, so that weight sharing has one pool and ties all t tokens; ``bias`` of shape
    (t, out_features), or (out_features,) if it is shared.

    Args:
      in_features: number of input channels c.
      out_features: number of output features f.
      tokens: t, their number.
      kernel_init: of one token's weights, shape (c, f); every token draws its own.
      rngs: where weights are drawn from.
      **arguments: others of :class:`jaxws.nnx.LocalConv` that are not about space: ``use_bias``,
        ``shared_bias``, ``bias_init``, ``dtype``, ``param_dtype``, ``precision`` and the like.

    Raises:
      ValueError: another number of tokens or channels than those that the layer was made for.

    Example:
      >>> layer = LocalDense(5, 3, tokens=16, rngs=nnx.Rngs(0))
      >>> layer.local_kernel.shape
      (16, 1, 5, 3)
      >>> layer(jnp.ones((2, 16, 5))).shape
      (2, 16, 3)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        tokens: int,
        kernel_init: Initializer = LECUN_NORMAL,
        rngs: nnx.Rngs,
        **arguments: Any,
    ) -> None:
        def init(
            key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32, out_sharding: Any = None
        ) -> jax.Array:
            return kernel_init(key, shape[1:], dtype).reshape(shape)

        super().__init__(
            in_features, out_features, 1, image_size=tokens, kernel_init=init, rngs=rngs,
            **arguments,
        )  # fmt: skip
