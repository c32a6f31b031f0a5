"""float16, bfloat16 and float32 on a short real run: the dtypes they promise, and agreement."""

import dataclasses
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params as jaxpr_params

from jaxws import LocalConv
from jaxws.config import base_config
from jaxws.core.implementations import native
from jaxws.data import build_feed
from jaxws.training.loss_scale import initial_loss_scale
from jaxws.training.optimizers import make_optimizer
from jaxws.training.run import build_model
from jaxws.training.state import create_train_state
from jaxws.training.step import train_step
from jaxws.training.weight_sharing import Sharing

STEPS = 6
UNIT_ROUNDOFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
# Of the numbers that a layer makes, these are rounded: its weights, its products, what BatchNorm
# makes of them, the sum with the shortcut; and on the way back the gradients of all four.
ROUNDINGS = 8


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = base_config()
    config.epochs, config.batch_size = 1, 64
    config.model.depth, config.model.width = 8, 4
    # Small enough that losses follow the weights smoothly, and large enough that they fall.
    config.optimizer.name, config.optimizer.learning_rate = "sgd", 0.02
    config.data.name, config.data.pad, config.data.flip = "digits", 2, False
    config.data.data_dir = str(tmp_path_factory.mktemp("tfds"))
    return config


class Short:
    """The first steps of a run on digits, in one precision."""

    def __init__(self, config, dtype, like=None):
        config = config.copy_and_resolve_references()
        config.model.dtype = dtype
        self.feed = build_feed(config)
        self.model = build_model(config.model, 10)
        # The C++ kernels, which compile faster; tests have devices enough for another choice.
        implementation = "native" if native.available() else None
        fast = self.model.copy(conv=partial(LocalConv, implementation=implementation))
        optimizer = make_optimizer(config, self.feed.steps_per_epoch)
        sharing = Sharing(0, "grid", self.feed.steps_per_epoch)

        def step(state, inputs, model=self.model):
            batch = self.feed.batching.train_batch(inputs, state.step)
            return train_step(state, batch, model=model, optimizer=optimizer, sharing=sharing)

        def losses(state, inputs):
            """Without what is looked at nowhere, which would be compiled for nothing."""
            state, metrics, info = step(state, inputs, fast)
            return state, metrics["loss"] / metrics["images"], info.skipped

        self.step, self.jitted = step, jax.jit(losses)
        self.create = (
            like.create
            if like
            else partial(
                create_train_state,
                jax.random.key(0),
                model=self.model,
                optimizer=optimizer,
                image_shape=self.feed.image_shape,
            )
        )
        self.scale = initial_loss_scale(dtype)

    @cached_property
    def shapes(self):
        """Those of the first state, for what is looked at without a run."""
        return dataclasses.replace(jax.eval_shape(self.create), loss_scale=self.scale)

    @cached_property
    def state(self):
        """The first one."""
        return dataclasses.replace(jax.jit(self.create)(), loss_scale=self.scale)

    def run(self, relative_error=0.0, seed=0):
        """Losses of the steps and the weights after them.

        With an error, every weight is wrong by up to that part of it in every step, as if rounded.
        """
        rng = np.random.default_rng(seed)

        def wrong(weights):
            error = rng.uniform(-relative_error, relative_error, weights.shape)
            return (weights * (1 + error)).astype(np.float32)

        state, inputs, losses = self.state, next(self.feed.train_inputs(0)), []
        for _ in range(STEPS):
            if relative_error:
                state = state.replace(params=jax.tree.map(wrong, state.params))
            state, loss, skipped = self.jitted(state, inputs)
            assert not skipped
            losses.append(float(loss))
        return np.array(losses), state


@pytest.fixture(scope="module")
def runs(config):
    single = Short(config, "float32")
    return {"float32": single} | {dtype: Short(config, dtype, single) for dtype in UNIT_ROUNDOFF}


def deviation(run, reference):
    """How far apart two runs' losses are (root mean square), and their weights (relative)."""
    (losses, state), (expected, expected_state) = run, reference
    weights = [
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(s.params)])
        for s in (state, expected_state)
    ]
    distance = np.linalg.norm(weights[0] - weights[1]) / np.linalg.norm(weights[1])
    return np.array([np.sqrt(np.mean(np.square(losses - expected))), distance])


@pytest.mark.slow
def test_precisions_agree_on_a_short_run(runs):
    """As far as their roundings let one expect.

    What rounding the weights alone does is measured, in float32, by weights that are wrong by up to
    the unit roundoff. There are ROUNDINGS of that size per layer; were all of them to push the
    same way, their effects would add up, so ROUNDINGS times the effect of one bounds them.
    """
    reference = runs["float32"].run()
    measured = {}
    for dtype, unit in UNIT_ROUNDOFF.items():
        effects = [deviation(runs["float32"].run(unit, seed), reference) for seed in range(3)]
        measured[dtype] = deviation(runs[dtype].run(), reference)
        assert (measured[dtype] > 0).all()  # it does compute in this dtype
        assert (measured[dtype] < ROUNDINGS * np.mean(effects, axis=0)).all()
    assert (measured["float16"] < measured["bfloat16"]).all()


def equations_of(jaxpr):
    """All equations, those of inner programs included."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxpr_params(equation.params):
            yield from equations_of(inner)


@pytest.mark.parametrize("dtype", ["float32", *UNIT_ROUNDOFF])
def test_every_array_has_the_dtype_it_is_promised(runs, dtype):
    run, half = runs[dtype], np.dtype(jnp.dtype(dtype))
    inputs = next(run.feed.train_inputs(0))
    batch = jax.eval_shape(run.feed.batching.train_batch, inputs, jnp.asarray(0))
    assert batch.image.dtype == half
    state, metrics, info = jax.eval_shape(run.step, run.shapes, inputs)
    floats = [leaf for leaf in jax.tree.leaves((state, metrics, info)) if leaf.dtype.kind == "f"]
    assert {leaf.dtype.name for leaf in floats} == {"float32"}
    assert (state.loss_scale == ()) == (dtype != "float16")
    # The forward pass: the products of all layers but the head are of the policy's dtype.
    variables = {"params": run.shapes.params, "batch_stats": run.shapes.batch_stats}
    forward = partial(run.model.apply, train=True, mutable=["batch_stats"])
    jaxpr = jax.make_jaxpr(forward)(variables, batch.image).jaxpr
    products = [e for e in equations_of(jaxpr) if e.primitive.name == "dot_general"]
    *layers, head = products
    assert len(layers) == 9
    for equation in layers:
        assert {v.aval.dtype for v in equation.invars} == {half}
        assert [v.aval.dtype.name for v in equation.outvars] == ["float32"]
    assert {v.aval.dtype.name for v in (*head.invars, *head.outvars)} == {"float32"}
    # Reductions, of BatchNorm and of the loss, add up float32.
    sums = [e for e in equations_of(jaxpr) if e.primitive.name == "reduce_sum"]
    assert sums
    assert {v.aval.dtype.name for e in sums for v in e.invars} == {"float32"}
