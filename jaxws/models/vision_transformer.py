"""A vision transformer for small images whose tokens may have weights of their own (appendix A.4).

A transformer multiplies every token by the same matrix. That is weight sharing, as in a
convolution: a neuron looks at its token with the weights that its siblings use for theirs. Here
these projections are of a class that is an argument: ``nn.Dense`` shares them over tokens,
:class:`jaxws.LocalDense` gives each token its own, of shape (t, 1, c, f), which
:func:`jaxws.share_weights` and :func:`jaxws.dynamics.sleep_phase` tie in one pool of t tokens.

Projections have no bias, as the paper's layers have none: with weights shared, a network of local
projections computes what that of shared ones with the mean matrices does. A token's own offset is
in the position embedding, which no sharing touches; LayerNorms are shared in every network.

Sharing makes weights that were drawn independently sqrt(t) times smaller, and here no BatchNorm
makes up for it, as it does in the paper's networks. With ``same_start``, all tokens start from one
draw instead, that of the shared network with the same key, and sharing takes nothing from it.

From equal weights, plain SGD with sharing after every batch moves a local matrix by the mean of its
t gradients, where a shared one moves by their sum: like the shared network at 1 / t of the rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxws.layers.dense import LocalDense
from jaxws.models.initializers import HEAD_INIT
from jaxws.models.patches import check_patches, patches
from jaxws.models.spec import ModelSpec

DenseClass = Callable[..., nn.Module]

PROJECTIONS = ("embedding", "qkv", "out", "mlp")


class Block(nn.Module):
    """Self-attention and a two-layer perceptron, each behind a LayerNorm and beside a shortcut.

    Attributes:
      heads: number of attention heads; a divisor of the width.
      hidden: width of the perceptron's hidden layer.
      project: makes the projection of a kind, called as ``project(kind, features, name=...)``.
      dtype: of activations; LayerNorm and softmax compute in float32.
    """

    heads: int
    hidden: int
    project: Callable[..., nn.Module]
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps tokens (n, t, c) to the same shape."""
        width = x.shape[-1]
        y = nn.LayerNorm(dtype=self.dtype, name="norm1")(x)
        y = self.project("qkv", 3 * width, name="qkv")(y)
        y = y.reshape(*x.shape[:2], 3, self.heads, width // self.heads)
        y = jax.nn.dot_product_attention(y[:, :, 0], y[:, :, 1], y[:, :, 2])
        x = x + self.project("out", width, name="out")(y.reshape(x.shape))
        y = nn.LayerNorm(dtype=self.dtype, name="norm2")(x)
        y = nn.gelu(self.project("mlp", self.hidden, name="mlp1")(y))
        return x + self.project("mlp", width, name="mlp2")(y)


class ViT(nn.Module):
    """Pre-norm vision transformer; the mean token, normalised, goes to the head.

    There is no class token: it would be in every pool, though it sees no patch.

    :func:`vit` checks the arguments.

    Attributes:
      patch_size: side p of the square patches, in pixels, that become tokens.
      depth: number of blocks.
      width: number of features of a token.
      heads: number of attention heads.
      mlp_ratio: hidden features of a perceptron, in units of the width.
      num_classes: size of the output.
      dense: class of the projections that ``local_projections`` names: ``nn.Dense`` or
        :class:`jaxws.LocalDense`.
      local_projections: of :data:`PROJECTIONS`: the patches' embedding; queries, keys and values;
        the attention's output; both layers of the perceptron. The others are ``nn.Dense``.
      same_start: local projections start from equal matrices, see :class:`jaxws.LocalDense`.
      dtype: of activations; parameters, LayerNorm, softmax, the head and logits are float32.

    Example:
      >>> from jaxws import LocalDense
      >>> model = vit(4, depth=1, width=16, heads=2, dense=LocalDense)
      >>> variables = jax.jit(model.init)(jax.random.key(0), jnp.ones((1, 8, 12, 3)))
      >>> variables["params"]["block0"]["qkv"]["local_kernel"].shape
      (6, 1, 16, 48)
      >>> jax.jit(model.apply)(variables, jnp.ones((2, 8, 12, 3))).shape
      (2, 10)
    """

    patch_size: int
    depth: int
    width: int
    heads: int
    mlp_ratio: int
    num_classes: int
    dense: DenseClass
    local_projections: Sequence[str] = PROJECTIONS
    same_start: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Computes logits.

        Args:
          x: images, shape (n, H, W, c), normalised; p divides H and W.
          train: changes nothing, as there is neither BatchNorm nor dropout.
          mask: changes nothing: rows of a batch do not see each other.

        Returns:
          Logits of shape (n, num_classes), float32.

        Raises:
          ValueError: an image that cannot be cut into patches.
        """
        x = nn.LayerNorm(dtype=jnp.float32, name="norm")(self._tokens(x).mean(1, dtype=jnp.float32))
        return nn.Dense(self.num_classes, kernel_init=HEAD_INIT, name="fc")(x)

    def _tokens(self, x: jax.Array) -> jax.Array:
        """The tokens (n, t, width) that the last block makes of images."""
        local = partial(self.dense, same_start=True) if self.same_start else self.dense
        project = partial(_projection, local, self.local_projections, self.dtype)
        x = project("embedding", self.width, name="embedding")(patches(x, self.patch_size))
        positions = self.param(
            "position_embedding", nn.initializers.normal(0.02), x.shape[1:], jnp.float32
        )
        x = x + positions[None].astype(self.dtype)
        for block in range(self.depth):
            hidden = self.mlp_ratio * self.width
            x = Block(self.heads, hidden, project, self.dtype, name=f"block{block}")(x)
        return x


def vit(
    patch_size: int = 4,
    *,
    depth: int,
    width: int,
    heads: int,
    mlp_ratio: int = 4,
    num_classes: int = 10,
    dense: DenseClass,
    local_projections: Sequence[str] = PROJECTIONS,
    same_start: bool = False,
    dtype: Any = jnp.float32,
) -> ViT:
    """A vision transformer with projections shared over tokens, or not (appendix A.4).

    Without biases, a block has (4 + 2 mlp_ratio) width^2 weights in its projections; local ones
    have them for each of the H W / patch_size^2 tokens.

    Args:
      patch_size: side of the square patches, in pixels.
      depth: number of blocks.
      width: number of features of a token.
      heads: number of attention heads.
      mlp_ratio: hidden features of a perceptron, in units of the width.
      num_classes: size of the output.
      dense: ``nn.Dense`` or :class:`jaxws.LocalDense`.
      local_projections: which are of that class, of :data:`PROJECTIONS`; one of them, or several.
      same_start: whether their tokens start from equal matrices; of ``LocalDense`` only.
      dtype: of activations.

    Returns:
      A :class:`ViT`.

    Raises:
      ValueError: sizes below 1, a width that ``heads`` does not divide, unknown projections.

    Example:
      >>> vit(depth=2, width=30, heads=4, dense=nn.Dense)
      Traceback (most recent call last):
      ValueError: width=30 with heads=4: heads get equal parts of it; expected a multiple of 4.
    """
    sizes = {"patch_size": patch_size, "depth": depth, "width": width, "heads": heads}
    for name, size in (sizes | {"mlp_ratio": mlp_ratio}).items():
        if size < 1:
            raise ValueError(f"{name}={size}: expected at least 1.")
    if width % heads:
        raise ValueError(
            f"width={width} with heads={heads}: heads get equal parts of it; expected a multiple"
            f" of {heads}."
        )
    one = isinstance(local_projections, str)
    chosen = (str(local_projections),) if one else tuple(local_projections)
    if unknown := [kind for kind in chosen if kind not in PROJECTIONS]:
        raise ValueError(
            f"local_projections={chosen}: {unknown[0]!r} is no projection; expected some of"
            f" {PROJECTIONS}."
        )
    return ViT(
        patch_size, depth, width, heads, mlp_ratio, num_classes, dense, chosen, same_start, dtype
    )


def _projection(
    dense: DenseClass, local: Sequence[str], dtype: Any, kind: str, features: int, name: str
) -> nn.Module:
    layer = dense if kind in local else nn.Dense
    # Of either class: N(0, 1 / c), truncated, for each matrix (c, features).
    init = nn.initializers.lecun_normal()
    return layer(features, use_bias=False, kernel_init=init, dtype=dtype, name=name)


def _build(config: ConfigDict, num_classes: int) -> ViT:
    local = tuple(config.local_projections)
    if config.connectivity == "local" and not local:
        raise ValueError(
            "config.model.local_projections=() with config.model.connectivity='local': name some"
            " projections, or set connectivity='conv', which shares all."
        )
    if config.block_size is not None:
        raise ValueError(
            f"config.model.block_size={config.block_size} is for ResNets: leave it unset for a ViT."
        )
    if config.first_layer_conv:
        raise ValueError(
            "config.model.first_layer_conv=True is for ResNets: a ViT shares its first layer where"
            " config.model.local_projections leaves 'embedding' out."
        )
    return vit(
        config.patch_size,
        depth=config.depth,
        width=config.width,
        heads=config.heads,
        mlp_ratio=config.mlp_ratio,
        num_classes=num_classes,
        dense=LocalDense if config.connectivity == "local" else nn.Dense,
        local_projections=local,
        same_start=config.same_start and config.connectivity == "local",
        dtype=jnp.dtype(config.dtype),
    )


def _in_words(config: ConfigDict) -> str:
    local = config.connectivity == "local"
    kind = f"local {', '.join(config.local_projections)} of a" if local else "shared"
    return f"{kind} vit-{config.depth}, width {config.width}"


VIT = ModelSpec(
    build=_build,
    check=lambda config, image_shape: check_patches(image_shape, config.patch_size),
    describe=_in_words,
    axes={("position_embedding", 2): "hf"},
)
