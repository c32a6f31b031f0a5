"""Where the filters of a network lie: what the shape of a kernel does not tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxws.core.window import LayerWindow, Window, per_axis
from jaxws.layers.conv import LocalConv


def layer_windows(model: nn.Module, image_shape: Sequence[int]) -> dict[str, LayerWindow]:
    """Reads strides, padding and groups of every locally connected layer of a network.

    Args:
      model: a network of :class:`jaxws.LocalConv` and :class:`jaxws.LocalDense` layers, called as
        ``model(x)``.
      image_shape: (H, W, c), or likewise in 1-D and 3-D.

    Returns:
      A dict from the layer's path, as in :func:`jaxws.weight_snr`, to its geometry. Nothing is
      computed.

    Raises:
      ValueError: a layer with input dilation, or one filter for a block of positions.

    Example:
      >>> from jaxws.models import resnet_cifar
      >>> windows = layer_windows(resnet_cifar(8, width=4, conv=LocalConv), (32, 32, 3))
      >>> windows["layer2_0/conv1"].window.strides
      (2, 2)
    """
    windows: dict[str, LayerWindow] = {}

    def record(layer: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if isinstance(module, LocalConv) and context.method_name == "__call__":
            path, inputs = "/".join(module.path), args[0]
            windows[path] = LayerWindow(_window(path, module, inputs), module.feature_group_count)
        return layer(*args, **kwargs)

    with nn.intercept_methods(record):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *image_shape)))
    return windows


def _window(path: str, layer: LocalConv, inputs: jax.Array) -> Window:
    ndim = layer.ndim
    if any(b > 1 for b in per_axis("block_size", layer.block_size, ndim)):
        raise ValueError(
            f"layer {path!r} has blocks of {layer.block_size} positions with one filter: its"
            " filters do not see one window each; expected block_size=1."
        )
    if any(step > 1 for step in per_axis("input_dilation", layer.input_dilation or 1, ndim)):
        raise ValueError(
            f"layer {path!r} has input dilation {layer.input_dilation}: its positions do not see"
            " windows of the image itself; expected 1."
        )
    return layer.window(inputs.shape[:ndim] if layer.batch_last else inputs.shape[-ndim - 1 : -1])
