"""float16, bfloat16 and float32 on a short real run: the dtypes they promise, and agreement."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxws.config import base_config
from jaxws.data import build_feed
from jaxws.gradients import batch_gradients
from jaxws.optimizers import make_optimizer
from jaxws.run import build_model
from jaxws.train_state import create_train_state
from jaxws.train_step import Sharing, train_step

STEPS = 8
HALVES = {"bfloat16": 2.0**-8, "float16": 2.0**-11}  # and their unit roundoff


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = base_config()
    config.epochs, config.batch_size = 1, 64
    config.model.depth, config.model.width = 8, 4
    config.sharing.every = 2
    # Small enough that losses follow the weights smoothly, and large enough that they fall.
    config.optimizer.name, config.optimizer.learning_rate = "sgd", 0.02
    config.data.name, config.data.pad, config.data.flip = "digits", 2, False
    config.data.data_dir = str(tmp_path_factory.mktemp("tfds"))
    return config


class Short:
    """The first steps of a run on digits, in one precision."""

    def __init__(self, config, dtype):
        config = config.copy_and_resolve_references()
        config.model.dtype = dtype
        self.feed = build_feed(config)
        self.model = build_model(config.model, 10)
        optimizer = make_optimizer(config, self.feed.steps_per_epoch)
        self._create = partial(
            create_train_state,
            model=self.model,
            optimizer=optimizer,
            image_shape=self.feed.image_shape,
            dtype=dtype,
        )
        self.sharing = Sharing(config.sharing.every, "grid", self.feed.steps_per_epoch)

        def step(state, inputs):
            batch = self.feed.train_batch(inputs, state.step)
            return train_step(
                state, batch, model=self.model, optimizer=optimizer, sharing=self.sharing
            )

        self.step = step
        self.jitted = jax.jit(step)

    @cache
    def state(self):
        return jax.jit(self._create)(jax.random.key(0))

    def inputs(self):
        return next(self.feed.train_inputs(0))

    def run(self, perturb=None):
        """Losses of the steps; ``perturb`` changes the weights in front of each."""
        state, inputs, losses = self.state(), self.inputs(), []
        for step in range(STEPS):
            seen = state if perturb is None else state.replace(params=perturb(step, state.params))
            state, metrics, info = self.jitted(seen, inputs)
            assert not info.skipped
            losses.append(float(metrics.loss / metrics.images))
        return np.array(losses), state


@pytest.fixture(scope="module")
def runs(config):
    return {dtype: Short(config, dtype) for dtype in ("float32", *HALVES)}


def roundings(run, dtype):
    """How often a number is rounded to the dtype on its way through a step, at most."""
    inputs = run.inputs()
    batch = jax.eval_shape(run.feed.train_batch, inputs, jnp.asarray(0))
    jaxpr = jax.make_jaxpr(partial(batch_gradients, model=run.model))(
        run.state().params, run.state().batch_stats, batch
    )
    return len([v for v in values_of(jaxpr.jaxpr) if v.dtype == dtype and v.ndim > 1])


def values_of(jaxpr):
    """All results of all equations, those of inner programs included."""
    for equation in jaxpr.eqns:
        yield from (v.aval for v in equation.outvars if hasattr(v.aval, "dtype"))
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from values_of(inner)
