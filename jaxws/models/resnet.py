"""Residual networks of the paper, as functions of one convolution class.

Images come as (n, H, W, c). A network of :class:`jaxws.LocalConv` layers turns them once, at its
entry, into (H, W, c, n), in which the layers work, and never back; so does one of
:data:`jaxws.layers.tied.Conv` on a CPU.

Submodules bear torchvision's names with ``.`` replaced by ``_`` between a stage and its block
(``layer2_0/conv1``), so that a convolutional network, an LC network and a PyTorch checkpoint of the
same architecture differ in the names of their kernels only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from ml_collections import ConfigDict

from jaxws.core.channel_sums import is_supported
from jaxws.core.implementations.autodiff import PLAIN
from jaxws.layers import norm as kernels
from jaxws.layers.conv import LocalConv
from jaxws.layers.tied import Conv, prefers_batch_last
from jaxws.models.initializers import HEAD_INIT, conv_init, uniform
from jaxws.models.spec import ModelSpec

ConvClass = Callable[..., nn.Module]


class BasicBlock(nn.Module):
    """Two 3x3 layers with BatchNorm and a shortcut; a 1x1 layer on it where the shape changes.

    Attributes:
      features: number of output features.
      strides: of the first 3x3 layer and of the shortcut.
      conv: ``nn.Conv``, :class:`jaxws.LocalConv` or any class with their arguments.
      norm: the normalisation, called as ``norm(name=...)(x, mask=mask)``.
      relu: ``nn.relu``, or :func:`jaxws.layers.norm.relu`.
    """

    features: int
    strides: int
    conv: ConvClass
    norm: Callable[..., nn.Module]
    relu: Callable[[jax.Array], jax.Array] = nn.relu

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Halves H and W where strides is 2, and makes c ``features``, in any layout."""
        y = self.conv(self.features, (3, 3), strides=self.strides, padding=1, name="conv1")(x)
        y = self.relu(self.norm(name="bn1")(y, mask=mask))
        y = self.conv(self.features, (3, 3), strides=1, padding=1, name="conv2")(y)
        y = self.norm(name="bn2")(y, mask=mask)
        if x.shape != y.shape:
            x = self.conv(
                self.features, (1, 1), strides=self.strides, padding=0, name="downsample_0"
            )(x)
            x = self.norm(name="downsample_1")(x, mask=mask)
        return self.relu(x + y)


class ResNet(nn.Module):
    """Residual network of basic blocks: He et al.'s for CIFAR and torchvision's for ImageNet.

    Attributes:
      stage_sizes: number of blocks per stage; every stage but the first halves the image.
      width: features of the first stage; each stage doubles them.
      num_classes: size of the output.
      conv: class of all layers but the head: :class:`jaxws.LocalConv`, ``nn.Conv``, or
        :data:`jaxws.layers.tied.Conv`, which computes the same faster on CPUs.
      first_conv: class of the first layer where it differs ("1st layer conv", Table 13).
      imagenet_stem: 7x7 layer at stride 2 and 3x3 max-pool at stride 2, instead of a 3x3 layer.
      dtype: of activations; parameters, statistics, the head and logits are float32.

    BatchNorm is Flax's: it keeps the biased variance of a batch, of which PyTorch keeps
    n / (n - 1), with n the number of values per channel; it matters in evaluation only.

    Example:
      >>> from jaxws import LocalConv
      >>> model = resnet_cifar(depth=8, width=4, num_classes=10, conv=LocalConv)
      >>> variables = jax.jit(model.init)(jax.random.key(0), jnp.ones((1, 16, 16, 3)))
      >>> jax.jit(model.apply)(variables, jnp.ones((2, 16, 16, 3))).shape
      (2, 10)
    """

    stage_sizes: Sequence[int]
    width: int
    num_classes: int
    conv: ConvClass
    first_conv: ConvClass | None = None
    imagenet_stem: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Computes logits.

        Args:
          x: images, shape (n, H, W, c), normalised.
          train: use and update the batch's statistics (make ``batch_stats`` mutable).
          mask: shape (n,), False for rows that only fill up the batch and must not count in its
            statistics.

        Returns:
          Logits of shape (n, num_classes), float32.
        """
        batch_last = _is_local(self.conv) or (self.conv is Conv and prefers_batch_last(x))
        conv, first_conv = (
            partial(
                _in_layout(layer, batch_last),
                use_bias=False,
                kernel_init=conv_init,
                dtype=self.dtype,
            )
            for layer in (self.conv, self.first_conv or self.conv)
        )
        sums = train and batch_last and mask is None and self._has_sums(x)
        relu = kernels.relu if sums else nn.relu
        norm = partial(
            kernels.BatchNorm if sums else nn.BatchNorm,
            use_running_average=not train,
            axis=-2 if batch_last else -1,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
        )
        if batch_last:
            x = jnp.moveaxis(x, 0, -1)
        elif mask is not None:
            mask = mask[:, None, None, None]
        size, strides, padding = ((7, 7), 2, 3) if self.imagenet_stem else ((3, 3), 1, 1)
        x = first_conv(self.width, size, strides=strides, padding=padding, name="conv1")(x)
        x = relu(norm(name="bn1")(x, mask=mask))
        if self.imagenet_stem:
            x = _max_pool(x, (0, 1) if batch_last else (1, 2))
        for stage, blocks in enumerate(self.stage_sizes):
            for block in range(blocks):
                strides = 2 if stage > 0 and block == 0 else 1
                name = f"layer{stage + 1}_{block}"
                features = self.width * 2**stage
                x = BasicBlock(features, strides, conv, norm, relu, name=name)(x, mask)
        x = jnp.mean(x, axis=(0, 1) if batch_last else (1, 2), dtype=jnp.float32)
        x = x.T if batch_last else x
        bound = x.shape[-1] ** -0.5
        return nn.Dense(
            self.num_classes, kernel_init=HEAD_INIT, bias_init=uniform(bound), name="fc"
        )(x)

    def _has_sums(self, images: jax.Array) -> bool:
        """Whether kernels take BatchNorm's sums: they, too, know no forward mode."""
        name = self.conv.keywords.get("implementation") if isinstance(self.conv, partial) else None
        return name not in PLAIN and is_supported(images, self.dtype)


def resnet_cifar(
    depth: int = 20,
    *,
    width: int = 16,
    num_classes: int = 10,
    conv: ConvClass,
    first_conv: ConvClass | None = None,
    dtype: Any = jnp.float32,
) -> ResNet:
    """He et al.'s ResNet 6n+2 for small images: 3x3 stem, three stages, 16 to 64 features.

    With LC layers, depth 20 and 32x32 images it has 40.8 M weights; convolutional 0.272 M.

    Args:
      depth: 6n + 2 for n blocks per stage.
      width: features of the first stage.
      num_classes: size of the output.
      conv: class of all layers.
      first_conv: class of the first layer where it differs.
      dtype: of activations.

    Returns:
      A :class:`ResNet`.

    Raises:
      ValueError: a depth that is not 6n + 2.

    Example:
      >>> resnet_cifar(20, num_classes=10, conv=nn.Conv).stage_sizes
      (3, 3, 3)
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise ValueError(f"depth={depth}: expected 6n + 2, such as 8, 14, 20, 32, 44, 56.")
    return ResNet((blocks,) * 3, width, num_classes, conv, first_conv, False, dtype)


def resnet18(
    *,
    width: int = 32,
    num_classes: int = 1000,
    conv: ConvClass,
    first_conv: ConvClass | None = None,
    dtype: Any = jnp.float32,
) -> ResNet:
    """torchvision's ResNet-18 at any width; the paper's "0.5x" is width 32, torchvision's is 64.

    At width 32 and 224x224 images it has 483 M weights with LC layers and 3.06 M convolutional.

    Args:
      width: features of the first stage.
      num_classes: size of the output.
      conv: class of all layers.
      first_conv: class of the first layer where it differs ("1st layer conv").
      dtype: of activations.

    Returns:
      A :class:`ResNet`.

    Example:
      >>> resnet18(conv=nn.Conv).stage_sizes
      (2, 2, 2, 2)
    """
    return ResNet((2, 2, 2, 2), width, num_classes, conv, first_conv, True, dtype)


def _arguments(config: ConfigDict, num_classes: int) -> dict[str, Any]:
    """What ``config.model`` says of a residual network of any depth."""
    return {
        "width": config.width,
        "num_classes": num_classes,
        "conv": _conv_class(config),
        "first_conv": Conv if config.first_layer_conv else None,
        "dtype": jnp.dtype(config.dtype),
    }


def _conv_class(config: ConfigDict) -> ConvClass:
    if config.connectivity != "local":
        if config.block_size is not None:
            raise ValueError(
                f"config.model.block_size={config.block_size} with config.model.connectivity="
                f"{config.connectivity!r}, which has one filter for all positions: leave it unset,"
                " or set connectivity='local'."
            )
        return Conv
    return LocalConv if config.block_size is None else _with_blocks(config.block_size)


@cache  # one object, so that networks of equal settings are equal
def _with_blocks(size: int) -> ConvClass:
    return partial(LocalConv, block_size=size)


def _in_words(config: ConfigDict, depth: str) -> str:
    kind = "locally connected" if config.connectivity == "local" else "convolutional"
    b = config.block_size
    blocks = "" if b is None else f", a filter for {b} x {b} positions"
    return f"{kind} {config.architecture}{depth}, width {config.width}{blocks}"


RESNET_CIFAR = ModelSpec(
    build=lambda config, classes: resnet_cifar(config.depth, **_arguments(config, classes)),
    describe=lambda config: _in_words(config, f"-{config.depth}"),
)
RESNET18 = ModelSpec(
    build=lambda config, classes: resnet18(**_arguments(config, classes)),
    describe=lambda config: _in_words(config, ""),
)


def _is_local(conv: ConvClass) -> bool:
    while isinstance(conv, partial):
        conv = conv.func
    return isinstance(conv, type) and issubclass(conv, LocalConv)


def _in_layout(conv: ConvClass, batch_last: bool) -> ConvClass:
    """A class of layers for activations (H, W, c, n) if ``batch_last``, else (n, H, W, c)."""
    if not batch_last:
        return conv
    if _is_local(conv):
        return partial(conv, batch_last=True)

    def make(*args: Any, **kwargs: Any) -> Any:
        layer = conv(*args, **kwargs)
        return lambda x: jnp.moveaxis(layer(jnp.moveaxis(x, -1, 0)), 0, -1)

    return make


def _max_pool(x: jax.Array, axes: tuple[int, int]) -> jax.Array:
    """3x3 maxima at stride 2, with one pixel of padding."""
    window, strides, padding = [1] * x.ndim, [1] * x.ndim, [(0, 0)] * x.ndim
    for axis in axes:
        window[axis], strides[axis], padding[axis] = 3, 2, (1, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, padding)
