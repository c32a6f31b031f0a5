"""Runs whose network compiles in a second."""

import flax.linen as nn
import jax.numpy as jnp

from jaxws import LocalConv
from jaxws.run import prepare


class Small(nn.Module):
    """One layer of each kind, for runs of which only the bookkeeping is looked at."""

    classes: int
    dtype: str

    @nn.compact
    def __call__(self, x, train=False, mask=None):
        x = LocalConv(2, (3, 3), use_bias=False, dtype=self.dtype, name="conv1")(x)
        mask = None if mask is None else mask[:, None, None, None]
        x = nn.relu(nn.BatchNorm(use_running_average=not train, dtype=self.dtype)(x, mask=mask))
        return nn.Dense(self.classes)(x.mean((1, 2)).astype(jnp.float32))


def prepare_small(config, workdir):
    run = prepare(config, workdir)
    return run._replace(model=Small(len(run.feed.class_names), config.model.dtype))
