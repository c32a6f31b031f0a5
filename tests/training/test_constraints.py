"""Dale's law: signs that weights keep, whatever updates and sharing do."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxws import share_weights
from jaxws.core.named_leaves import named_leaves
from jaxws.core.packed import pack_kernels, unpack_kernels
from jaxws.training.constraints import channel_signs, dale, obey, project
from jaxws.training.loop import train
from jaxws.training.run import prepare
from jaxws.training.state import TrainState, start_optimizer
from tests.support.small_run import checkpoint_of, small_config, train_whole_and_stopped

# Locally connected in 1-D and 2-D, convolutional, dense.
SHAPES = [(5, 3, 4, 2), (4, 3, 2, 2, 4, 3), (3, 3, 4, 5), (4, 6)]
LEAVES = ("*/local_kernel", "*/kernel")


def draw(rng):
    """Weights of all kinds, zeros of both signs among them."""

    def weights(shape):
        drawn = rng.normal(size=shape).astype(np.float32)
        drawn.flat[:2] = 0.0, -0.0
        return jnp.asarray(drawn)

    params = {
        f"layer{i}": {"local_kernel" if i < 2 else "kernel": weights(shape)}
        for i, shape in enumerate(SHAPES)
    }
    return params | {"bn": {"scale": weights((6,)), "bias": weights((6,))}}


def assert_obeys(params, state, seen=5):
    signs = channel_signs(state)
    assert len(signs) == seen
    for name, leaf in named_leaves(params).items():
        sign = signs.get(name.replace("/", "."))
        if sign is not None:
            sign = np.asarray(sign)[:, None] if sign.ndim else np.asarray(sign)
            assert (np.asarray(leaf) * sign >= 0).all(), name


@pytest.mark.parametrize("signs", ["seed", "initial"])
def test_updates_stop_at_zero_and_means_of_pools_keep_signs(signs):
    constraint = dale(LEAVES, signs=signs, nonnegative=("bn/scale",))
    optimizer = optax.chain(optax.adamw(0.3), constraint)
    state = optimizer.init(draw(np.random.default_rng(0)))

    @jax.jit
    def step(params, grads, state):
        params = obey(params, state)
        updates, state = optimizer.update(grads, state, params)
        after = optax.apply_updates(params, updates)
        free = optax.apply_updates(params, optax.adamw(0.3).update(grads, before, params)[0])
        shared = {pools: share_weights(after, pools=pools) for pools in ("grid", "global")}
        return params, after, project(free, state), shared, state

    before = optax.adamw(0.3).init(draw(np.random.default_rng(0)))

    @settings(max_examples=30)
    @given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e3))
    def check(seed, size):
        rng = np.random.default_rng(seed)
        params, grads = draw(rng), jax.tree.map(lambda a: a * np.float32(size), draw(rng))
        obeying, after, nearest, shared, after_state = step(params, grads, state)
        for name, leaf in named_leaves(obeying).items():
            if name != "bn/bias":
                assert (np.abs(leaf) == np.abs(named_leaves(params)[name])).all()
        for tree in (obeying, after, *shared.values()):
            assert_obeys(tree, after_state)
        jax.tree.map(partial(np.testing.assert_allclose, atol=1e-7), after, nearest)

        jax.tree.map(np.testing.assert_array_equal, after_state[1], state[1])

    check()


def test_signs_are_drawn_by_number_of_channels_or_are_those_of_the_weights():
    params = {
        "a": {"kernel": jnp.ones((3, 3, 20, 4))},
        "b": {"local_kernel": jnp.ones((5, 1, 20, 2))},
    }
    drawn = channel_signs(dale(LEAVES, seed=3).init(params))
    assert drawn["a.kernel"].dtype == jnp.int8 and (drawn["a.kernel"] == 1).sum() == 16
    np.testing.assert_array_equal(drawn["a.kernel"], drawn["b.local_kernel"])
    other = channel_signs(dale(LEAVES, seed=4).init(params))
    assert (other["a.kernel"] != drawn["a.kernel"]).any()
    half = channel_signs(dale(LEAVES, seed=3, excitatory=0.5).init(params))
    assert (half["a.kernel"] == 1).sum() == 10

    kernel = np.random.default_rng(0).normal(size=(4, 3, 5, 2)).astype(np.float32)
    params = {"local_kernel": jnp.asarray(kernel)}
    init = dale(["local_kernel"], signs="initial").init
    found = channel_signs(init(params))["local_kernel"]
    np.testing.assert_array_equal(found, np.where(kernel.sum((0, 1, 3)) >= 0, 1, -1))
    # As TPUs keep them.
    packed = pack_kernels(params)
    np.testing.assert_array_equal(channel_signs(init(packed))["local_kernel"], found)
    for function in (obey, project):
        expected = function(params, init(params))
        actual = unpack_kernels(function(packed, init(params)))
        jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_what_is_not_finite_stays_so_and_half_precision_keeps_signs():
    params = {"w": jnp.asarray([[1.0], [-1.0]], jnp.bfloat16)}
    constraint = dale(["w"], signs="initial")
    state = constraint.init(params)
    updates, _ = constraint.update({"w": jnp.asarray([[-7.3], [jnp.nan]])}, state, params)
    with jax.numpy_dtype_promotion("standard"):
        after = optax.apply_updates(params, updates)["w"]
    assert after.dtype == jnp.bfloat16 and after[0, 0] == 0 and jnp.isnan(after[1, 0])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: dale(["w"], signs="majority"), "signs='majority': expected one of 'seed'"),
        (lambda: dale(["w"], excitatory=1.5), "excitatory=1.5: expected a fraction"),
        (lambda: dale(["x"]).init({"w": jnp.ones((2, 2))}), r"no leaf .* fits \('x',\)"),
        (lambda: dale(["w"], exempt=["w"]).init({"w": jnp.ones((2, 2))}), "not exempt"),
        (lambda: dale(["w"]).init({"w": jnp.ones(2)}), r"leaf 'w' has shape \(2,\): Dale's law"),
        (lambda: dale(["w"], nonnegative=["w"]).init({"w": jnp.ones((2, 2))}), "both leaves"),
        (
            lambda: dale(["w"]).update({}, dale(["w"]).init({"w": jnp.ones((2, 2))})),
            "expected params",
        ),
    ],
)
def test_what_cannot_be_constrained_is_told(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.fixture(scope="module")
def constrained(folder, tmp_path_factory):
    """A run with all constraints, whose network has a layer that is frozen."""
    config = small_config(folder, tmp_path_factory.mktemp("tfds"))
    config.model.architecture = "tests.support.tiny_network:TINY"
    config.accumulate, config.sharing.mode = 2, "tests.support.shift_rule:SHIFT"
    config.optimizer.learning_rate, config.optimizer.freeze = 0.1, ("conv1/*",)
    config.plasticity.dale.signs = "seed"
    config.plasticity.dale.leaves = ("conv*kernel", "fc/kernel")
    config.plasticity.dale.nonnegative = ("bn1/scale",)
    config.topography.smoothness, config.topography.similarity = 0.5, 0.25
    return config


def test_a_run_keeps_signs_and_resumes_with_them(constrained, tmp_path):
    whole = train_whole_and_stopped(prepare, constrained, tmp_path)
    state = checkpoint_of(whole.workdir)[1]
    signs = state["opt_state"][1]["signs"]
    assert signs.keys() == {"conv2.local_kernel", "fc.kernel", "bn1.scale"}  # conv1 is frozen
    params = state["params"]
    kernel = np.asarray(params["conv2"]["local_kernel"])
    assert (kernel * np.asarray(signs["conv2.local_kernel"])[:, None] >= 0).all()
    assert (kernel == 0).any()  # where the rule would have led to the other side
    assert (np.asarray(params["fc"]["kernel"]) * np.asarray(signs["fc.kernel"])[:, None] >= 0).all()
    first = np.asarray(params["conv1"]["local_kernel"])
    assert (first < 0).any() and (first > 0).any()
    steps = [record for record in whole.workdir.records() if record["kind"] == "train"]
    assert all(0 < record["smoothness_loss"] < 1 for record in steps)
    assert all(record["similarity_loss"] > 0 for record in steps)

    # Another run that starts from it takes its signs from the weights, before the first step.
    constrained.model.init_from = str(whole.workdir.path)
    constrained.plasticity.dale.signs, constrained.max_steps = "initial", 1
    run = prepare(constrained, tmp_path / "next")
    train(run)
    after = checkpoint_of(run.workdir)[1]
    kept = after["opt_state"][1]["signs"]["conv2.local_kernel"]
    np.testing.assert_array_equal(kept, np.where(kernel.sum((0, 1, 2, 3, 5)) >= 0, 1, -1))


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        (
            {"plasticity.dale.leaves": ("layer*kernel",)},
            r"leaves=\('layer.kernel',\): no leaf fits",
        ),
        ({"plasticity.dale.leaves": None}, "its default: no leaf fits 'layer.kernel'"),
        ({"plasticity.dale.leaves": ("conv1/*",)}, "all of them are frozen"),
        (
            {"plasticity.dale.leaves": ("conv2/*",)},
            "leaf 'conv2/bias' has shape .7, 7, 2.: Dale's law",
        ),
        ({"plasticity.dale.nonnegative": ("bn/*",)}, "did you mean|no leaf fits 'bn/.'"),
        (
            {"optimizer.freeze": ("conv*",), "sharing.every": 0, "sharing.mode": "instant"},
            "locally",
        ),
    ],
)
def test_patterns_that_fit_nothing_are_told(constrained, tmp_path, fields, match):
    config = constrained.copy_and_resolve_references()
    config.update_from_flattened_dict(fields)
    with pytest.raises(ValueError, match=match):
        prepare(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_given_weights_are_turned_around():
    state = TrainState(jnp.asarray(0), {"w": jnp.asarray([[-2.0], [3.0]])}, {}, ())
    started = start_optimizer(state, dale(["w"], excitatory=1.0))
    assert started.params["w"].tolist() == [[2.0], [3.0]]
