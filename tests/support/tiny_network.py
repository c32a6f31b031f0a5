"""A network of two layers, convolutional or locally connected, that configurations can name."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxws import LocalConv
from jaxws.models import ModelSpec


class Tiny(nn.Module):
    """A biased layer of the given kind with BatchNorm, another one, and a linear one."""

    classes: int
    conv: Any
    dtype: str

    @nn.compact
    def __call__(self, x, train=False, mask=None):
        mask = None if mask is None else mask[:, None, None, None]
        x = self.conv(2, (3, 3), dtype=self.dtype, name="conv1")(x)
        norm = nn.BatchNorm(use_running_average=not train, dtype=self.dtype, name="bn1")
        x = nn.relu(norm(x, mask=mask))
        x = self.conv(2, (3, 3), dtype=self.dtype, name="conv2")(x)
        return nn.Dense(self.classes, name="fc")(nn.relu(x).mean((1, 2)).astype(jnp.float32))


TINY = ModelSpec(
    build=lambda config, classes: Tiny(
        classes, nn.Conv if config.connectivity == "conv" else LocalConv, config.dtype
    )
)
