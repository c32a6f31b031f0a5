"""Locally connected layers for Flax Linen, to put in the place of ``nn.Conv`` and its like."""

from jaxws.layers.conv import LocalConv
from jaxws.layers.dense import LocalDense
from jaxws.layers.low_rank import LowRankConv
from jaxws.layers.transposed import LocalConvTranspose
from jaxws.layers.windows import layer_windows

__all__ = ["LocalConv", "LocalConvTranspose", "LocalDense", "LowRankConv", "layer_windows"]
