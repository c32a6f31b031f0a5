"""Updates in one pass over locally connected weights, against optax's."""

from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxws import LocalConv, share_weights, weight_snr
from jaxws.core.implementations import native
from jaxws.core.pooled import expand_pools, pool_kernels
from jaxws.data.batch import Batch
from jaxws.models import ResNet
from jaxws.training.dale_settings import Dale
from jaxws.training.fused_update import fused_update
from jaxws.training.optimizers import OptimizerSettings
from jaxws.training.state import TrainState, create_train_state
from jaxws.training.step import train_step
from jaxws.training.weight_sharing import Sharing

needs_kernels = pytest.mark.skipif(
    not native.available() or jax.default_backend() != "cpu", reason="no C++ kernels"
)
MODEL = ResNet((1,), 4, 3, LocalConv)
SETTINGS = OptimizerSettings("adamw", 0.01, 0.0, 0.1, 10, (1,), 4.0)


@cache
def make_state():
    optimizer = SETTINGS.make()
    create = partial(create_train_state, model=MODEL, optimizer=optimizer, image_shape=(7, 6, 3))
    return jax.jit(create)(jax.random.key(0))


def draw(tree):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), jnp.float32), tree)


# Some layers decay, and some other leaves.
PARTLY = SETTINGS._replace(decay_mask=("layer1_0/conv1/*", "fc/kernel"))


@needs_kernels
@pytest.mark.parametrize(
    ("settings", "pooled", "pools"),
    [
        (SETTINGS, False, "grid"),
        (SETTINGS, True, "grid"),
        (SETTINGS, False, "global"),
        (PARTLY, True, "global"),
    ],
)
def test_an_update_is_that_of_optax(settings, pooled, pools):
    optimizer, state = settings.make(), make_state()
    state = state.replace(opt_state=optimizer.init(state.params))
    params = share_weights(state.params, pools=pools) if pooled else state.params
    before = pool_kernels(params, pools=pools) if pooled else params

    @jax.jit
    def both(before, params, opt_state):
        fused, plain = TrainState(0, before, {}, opt_state), (params, opt_state)
        snr = None
        for scale in (-1.5, -0.5, 0.5):
            grads = jax.tree.map(partial(jnp.multiply, scale), draw(params))
            updated = fused_update(fused, grads, optimizer, pools)
            updates, opt_state = optimizer.update(grads, plain[1], plain[0])
            params_after = optax.apply_updates(plain[0], updates)
            snr = weight_snr(params_after, pools=pools)
            if pooled:
                params_after = share_weights(params_after, pools=pools)
            fused = TrainState(0, updated.params, {}, updated.opt_state)
            plain = (params_after, opt_state)
        return (updated, (expand_pools(updated.params), updated.opt_state)), (snr, plain)

    (updated, actual), (snr, expected) = both(before, params, state.opt_state)
    chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(updated.snr, snr, rtol=1e-3)
    # Checkpoints and the next step find what they know.
    chex.assert_trees_all_equal_structs(updated.params, before)
    chex.assert_trees_all_equal_structs(updated.opt_state, state.opt_state)


@needs_kernels
@pytest.mark.parametrize(
    ("fused", "settings", "arguments"),
    [
        (True, SETTINGS, {}),
        (True, SETTINGS, {"skip_nonfinite": True}),
        (False, SETTINGS._replace(name="sgd", momentum=0.9), {}),
        (False, SETTINGS._replace(freeze=("fc/*",)), {"frozen": ("fc/*",)}),
        (True, SETTINGS._replace(decay_mask=("fc/*",)), {}),
        (False, SETTINGS._replace(dale=Dale("seed", 0.8, 0, ("layer*kernel",), ())), {}),
        (False, SETTINGS, {"frozen": ("fc/*",)}),  # known to the step alone
    ],
)
def test_steps_take_it_where_it_is_the_same(fused, settings, arguments):
    arguments = dict(arguments)
    sharing = Sharing(3, "grid", 10, frozen=arguments.pop("frozen", ()))
    optimizer, state = settings.make(), make_state()
    shapes = jax.eval_shape(optimizer.init, state.params)
    state = jax.eval_shape(lambda: TrainState(0, state.params, state.batch_stats, ()))
    state = TrainState(state.step, state.params, state.batch_stats, shapes)
    batch = Batch(jnp.ones((2, 7, 6, 3)), jnp.array([0, 1]), mask=None)
    step = partial(train_step, model=MODEL, optimizer=optimizer, sharing=sharing, **arguments)
    program = jax.jit(step).lower(state, batch).as_text()
    assert ("jaxws_adamw" in program) == fused


@needs_kernels
@pytest.mark.devices(2)
def test_not_where_arrays_may_be_split():
    assert fused_update(make_state(), make_state().params, SETTINGS.make(), "grid") is not None
    traced = []
    jax.jit(
        lambda state: traced.append(fused_update(state, state.params, SETTINGS.make(), "grid"))
    )(make_state())
    assert traced == [None]


@needs_kernels
@pytest.mark.parametrize("pooled", [False, True])
def test_what_is_not_finite_changes_nothing(pooled):
    optimizer, state = SETTINGS.make(), make_state()
    params = pool_kernels(state.params) if pooled else state.params
    moments = draw(state.opt_state.inner_state[0].nu)  # some of them not 0
    adam = state.opt_state.inner_state[0]._replace(mu=moments, nu=jax.tree.map(jnp.square, moments))
    inner = (adam, *state.opt_state.inner_state[1:])
    opt_state = state.opt_state._replace(inner_state=inner)
    state = TrainState(jnp.asarray(3), params, {}, opt_state)
    grads = jax.tree.map(lambda a: jnp.full(a.shape, jnp.nan), expand_pools(params))

    @jax.jit
    def update(state, grads, skip):
        return fused_update(state, grads, optimizer, "grid", unless=skip)

    skipped = update(state, grads, True)
    chex.assert_trees_all_equal(skipped.params, params)
    chex.assert_trees_all_equal(skipped.opt_state, opt_state)
    chex.assert_trees_all_close(skipped.snr, weight_snr(expand_pools(params)), rtol=1e-4)
    taken = update(state, draw(grads), False)
    plain = jax.jit(lambda *a: fused_update(*a, optimizer, "grid"))(state, draw(grads))
    chex.assert_trees_all_equal(taken, plain)
