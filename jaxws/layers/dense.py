"""The locally connected counterpart of ``nn.Dense``, a Linen module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Num

from jaxws.layers.conv import LocalConv


class LocalDense(nn.Module):
    """Linear layer with separate weights per token (appendix A.4), as ``nn.Dense`` without tying.

    Parameters: ``local_kernel`` of shape (t, 1, c, f), that of a 1-D layer with kernel size 1, so
    that weight sharing has one pool and ties all t tokens; ``bias`` of shape (t, f).

    Attributes:
      features: number of output features f.
      use_bias: whether to add a bias per token.
      dtype: of the computation; None means the promoted dtype of input and parameters.
      param_dtype: of the parameters.
      precision: of the matrix product.
      kernel_init: initialiser of one token's weights, shape (c, f); every token draws its own.
      bias_init: initialiser of the bias.
      implementation: as in :func:`jaxws.local_conv`.
      same_start: all tokens start from one draw. The mean of t draws, which is what the first
        sharing makes of them, is sqrt(t) times smaller than one.

    Raises:
      ValueError: a number of tokens other than at ``init``.

    Example:
      >>> layer = LocalDense(features=3)
      >>> variables = layer.init(jax.random.key(0), jnp.ones((2, 16, 5)))
      >>> variables["params"]["local_kernel"].shape
      (16, 1, 5, 3)
    """

    features: int
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    precision: Any = None
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros
    implementation: str | None = None
    same_start: bool = False

    @nn.compact
    def __call__(self, inputs: Num[Array, "*batch t c"]) -> Float[Array, "*batch t f"]:
        """Applies the layer to tokens (..., t, c); returns (..., t, f)."""
        drawn_once = self.same_start and self.is_initializing()
        one_key = self.make_rng("params") if drawn_once else None

        def init(
            key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32, out_sharding: Any = None
        ) -> Any:
            weights = self.kernel_init(key if one_key is None else one_key, shape[1:], dtype)
            if isinstance(weights, nn.Partitioned):
                weights = weights.replace(names=(None, *weights.names))
            return jax.tree.map(lambda leaf: leaf.reshape(shape), weights)

        layer = LocalConv(
            features=self.features,
            kernel_size=1,
            use_bias=self.use_bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            precision=self.precision,
            kernel_init=init,
            bias_init=self.bias_init,
            implementation=self.implementation,
        )
        nn.share_scope(self, layer)
        return layer(inputs)
