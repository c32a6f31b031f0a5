"""Locally connected layers for Flax Linen, to put in the place of ``nn.Conv`` and ``nn.Dense``."""

from jaxws.layers.conv import LocalConv
from jaxws.layers.dense import LocalDense
from jaxws.layers.windows import layer_windows

__all__ = ["LocalConv", "LocalDense", "layer_windows"]
