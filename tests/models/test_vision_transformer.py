"""The vision transformer with projections per token, tied by sharing or not."""

from functools import partial
from itertools import chain, combinations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict
from jax.extend.core import jaxprs_in_params

from jaxws import LocalDense, layer_windows, share_weights, to_conv, to_local, weight_snr
from jaxws.config import base_config
from jaxws.data import Batch
from jaxws.models import vit
from jaxws.models.vision_transformer import PROJECTIONS, patches
from jaxws.training.state import TrainState
from jaxws.training.state_layout import pool_if_shared
from jaxws.training.step import train_step
from jaxws.training.weight_sharing import Sharing, make_sharing, share

SHAPE, TOKENS = (6, 4, 3), 6
small = partial(vit, 2, depth=2, width=8, heads=2, mlp_ratio=2, num_classes=5)
LOCAL, SHARED = small(dense=LocalDense), small(dense=nn.Dense)
SUBSETS = list(chain.from_iterable(combinations(PROJECTIONS, n) for n in (1, 2, 4)))


def images(n=3, seed=0, shape=SHAPE):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, *shape)), jnp.float32)


def shapes(model, shape=SHAPE):
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)["params"]


def random_params(model, seed=0):
    """Weights of which none is zero or one, drawn without compiling anything."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(0.2, 0.5, leaf.shape), leaf.dtype), shapes(model)
    )


def initial_params(model, shape=SHAPE):
    """Those of a network, on the host."""
    init = jax.jit(model.init)
    return jax.device_get(init(jax.random.key(0), jnp.zeros((1, *shape)))["params"])


@partial(jax.jit, static_argnums=0)
def logits(model, params, x):
    return model.apply({"params": params}, x)


def reference(params, x, patch, depth, heads):
    """The network in float64, a token, a head and a patch at a time."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def project(layer, z):
        if "kernel" in layer:
            return np.stack([[token @ layer["kernel"] for token in row] for row in z])
        tokens = enumerate(layer["local_kernel"])
        return np.stack([z[:, t] @ kernel[0] for t, kernel in tokens], axis=1)

    def norm(layer, z):
        z = z - z.mean(-1, keepdims=True)
        z = z / np.sqrt((z**2).mean(-1, keepdims=True) + 1e-6)
        return z * layer["scale"] + layer["bias"]

    def attend(q, k, v):
        scores = np.exp(q @ k.T / np.sqrt(q.shape[1]))
        return scores / scores.sum(1, keepdims=True) @ v

    def gelu(z):  # its usual approximation
        return 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))

    rows, columns = (range(0, size, patch) for size in x.shape[1:3])
    x = np.asarray(x, np.float64)
    z = [x[:, a : a + patch, b : b + patch].reshape(len(x), -1) for a in rows for b in columns]
    z = project(params["embedding"], np.stack(z, 1)) + params["position_embedding"]
    width = z.shape[-1]
    for block in (params[f"block{i}"] for i in range(depth)):
        qkv = project(block["qkv"], norm(block["norm1"], z))
        heads_of = [slice(h * width // heads, (h + 1) * width // heads) for h in range(heads)]
        y = [
            np.concatenate([attend(*(m[:, h] for m in np.split(row, 3, axis=1))) for h in heads_of],
                           axis=1)
            for row in qkv
        ]  # fmt: skip
        z = z + project(block["out"], np.stack(y))
        hidden = gelu(project(block["mlp1"], norm(block["norm2"], z)))
        z = z + project(block["mlp2"], hidden)
    return norm(params["norm"], z.mean(1)) @ params["fc"]["kernel"] + params["fc"]["bias"]


@pytest.mark.parametrize("model", [LOCAL, SHARED], ids=["local", "shared"])
def test_logits_are_those_of_float64(model):
    params, x = random_params(model), images()
    expected = reference(params, x, 2, 2, 2)
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(logits(model, params, x), expected, rtol=1e-4, atol=1e-4)


def test_shared_weights_compute_what_the_shared_network_does():
    local = random_params(LOCAL)
    assert sum(path[-1] == "local_kernel" for path in flatten_dict(local)) == 1 + 4 * 2
    before = logits(LOCAL, local, images())
    tied = jax.jit(share_weights)(local)
    shared = jax.jit(partial(to_conv, like=shapes(SHARED)))(tied)
    expected = logits(SHARED, shared, images())
    assert np.abs(before - expected).max() > 0.1
    np.testing.assert_allclose(logits(LOCAL, tied, images()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("local", SUBSETS, ids="+".join)
def test_projections_that_are_local_are_those_named(local):
    model, d, r, depth = small(dense=LocalDense, local_projections=local), 8, 2, 2
    t = {kind: TOKENS if kind in local else 1 for kind in PROJECTIONS}
    projections = d * d * (3 * t["qkv"] + t["out"] + 2 * r * t["mlp"])
    embedding = 2 * 2 * 3 * d * t["embedding"] + TOKENS * d
    expected = embedding + depth * (projections + 4 * d) + 2 * d + (d + 1) * 5
    params = shapes(model)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected
    kinds = {path[-2].rstrip("12") for path in flatten_dict(params) if path[-1] == "local_kernel"}
    assert kinds == set(local)
    like = shapes(SHARED)  # the structure of both, and back
    assert jax.tree.map(jnp.shape, jax.eval_shape(to_conv, params, like)) == jax.tree.map(
        jnp.shape, like
    )


def test_only_the_shared_network_is_blind_to_the_order_of_patches():
    cut = np.asarray(images()).reshape(3, 3, 2, 2, 2, 3).swapaxes(2, 3).reshape(3, 6, 2, 2, 3)
    moved = cut[:, [4, 2, 0, 5, 1, 3]].reshape(3, 3, 2, 2, 2, 3).swapaxes(2, 3)
    moved = jnp.asarray(moved.reshape(3, *SHAPE))
    changes = {}
    for name, model in {"local": LOCAL, "shared": SHARED}.items():
        params = random_params(model)
        params["position_embedding"] *= 0
        change = np.subtract(logits(model, params, moved), logits(model, params, images()))
        changes[name] = float(np.abs(change).max())
    assert changes["shared"] < 1e-4 and changes["local"] > 0.1


def state_of(params, optimizer):
    return TrainState(jnp.zeros((), jnp.int32), params, {}, optimizer.init(params))


def test_sgd_with_ws1_is_sgd_of_the_shared_network_at_a_fraction_of_the_rate():
    """Local matrices move by the mean of their gradients, shared ones by the sum; all else so."""
    momentum = 0.9
    sgd = optax.sgd(0.05, momentum)
    slower = {
        path: path[-1] == "kernel" and path[0] != "fc" for path in flatten_dict(shapes(SHARED))
    }
    labels = {path: "slower" if slow else "same" for path, slow in slower.items()}

    def label(params):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: labels[tuple(entry.key for entry in path)], params
        )

    slowed = optax.multi_transform(
        {"same": sgd, "slower": optax.sgd(0.05 / TOKENS, momentum)}, label
    )
    start = random_params(SHARED)
    begin = {"local": jax.jit(partial(to_local, like=shapes(LOCAL)))(start), "shared": start}
    ends = {}
    for name, model, optimizer in [("local", LOCAL, sgd), ("shared", SHARED, slowed)]:
        state = jax.jit(partial(state_of, optimizer=optimizer))(begin[name])
        sharing = Sharing(int(name == "local"), "grid", 10)
        step = jax.jit(partial(train_step, model=model, optimizer=optimizer, sharing=sharing))
        for i in range(4):
            state, *_ = step(state, Batch(images(7, i), jnp.arange(7) % 5, None))
        ends[name] = state
    assert not ends["local"].batch_stats
    moved = jax.jit(partial(to_conv, like=shapes(SHARED)))(ends["local"].params)
    before_and_after = [flatten_dict(jax.device_get(params)) for params in (start, moved)]
    for path, leaf in flatten_dict(jax.device_get(ends["shared"].params)).items():
        before, after = (params[path] for params in before_and_after)
        distance = np.abs(leaf - before).max()
        assert distance > 1e-4, path
        np.testing.assert_allclose(after, leaf, rtol=0, atol=0.01 * distance, err_msg=path)


@pytest.mark.parametrize("dense", [LocalDense, nn.Dense], ids=["local", "shared"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_dtypes(dense, dtype):
    model = small(dense=dense, dtype=dtype)
    x = jax.ShapeDtypeStruct((2, *SHAPE), jnp.float32)
    params = shapes(model)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    run = partial(model.apply, train=True, mutable=["intermediates"], capture_intermediates=True)
    found, state = jax.eval_shape(run, {"params": params}, x)
    assert (found.shape, found.dtype) == ((2, 5), jnp.float32)
    inner = flatten_dict(state["intermediates"], sep="/")
    activations = {path.rpartition("/")[0]: leaf[0].dtype for path, leaf in inner.items()}
    head = {activations.pop(name) for name in ("", "norm", "fc")}
    assert head == {jnp.dtype("float32")} and set(activations.values()) == {jnp.dtype(dtype)}
    softmax = [e for e in equations(run, params, x) if e.primitive.name == "exp"]
    assert len(softmax) == 2
    assert {e.outvars[0].aval.dtype for e in softmax} == {jnp.dtype("float32")}


def equations(run, params, x):
    """All of a program's, also those of the programs it calls."""

    def visit(jaxpr):
        for equation in jaxpr.eqns:
            yield equation
            for inner in jaxprs_in_params(equation.params):
                yield from visit(inner)

    return visit(jax.make_jaxpr(run)({"params": params}, x).jaxpr)


def test_local_and_shared_matrices_start_from_one_distribution():
    """With variance 1 / c, every token's drawn by itself."""
    shape = (16, 8, 3)
    for dense in (nn.Dense, LocalDense):
        model = vit(4, depth=1, width=32, heads=4, dense=dense)
        params = initial_params(model, shape)
        for path, leaf in flatten_dict(params, sep="/").items():
            if "kernel" in path and "fc" not in path:
                scaled = np.asarray(leaf) * np.sqrt(leaf.shape[-2])
                # A normal number, truncated at two standard deviations, has kurtosis 2.37.
                assert abs(scaled.var() - 1) < 5 * np.sqrt(1.37 / leaf.size), path
                assert abs(scaled.mean()) < 5 / np.sqrt(leaf.size), path
                assert np.abs(scaled).max() < 2 / 0.8796 + 1e-4, path
    tokens = np.asarray(params["block0"]["mlp1"]["local_kernel"]).reshape(8, -1)
    assert np.abs(np.corrcoef(tokens) - np.eye(8)).max() < 5 / np.sqrt(tokens.shape[1])


def test_tokens_may_start_from_one_draw():
    """The first sharing takes nothing from its variance; layers still draw their own."""
    model = small(dense=LocalDense, same_start=True)
    params = initial_params(model)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes(LOCAL))
    first = {}
    for path, leaf in flatten_dict(params).items():
        if path[-1] == "local_kernel":
            np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
            assert 0.5 < leaf.var() * leaf.shape[-2] < 1.5
            first[path] = float(leaf.ravel()[0] * np.sqrt(leaf.shape[-2]))
    assert len(set(first.values())) == len(first) == 9
    # That of the shared network with the same key: the two compute the same from the start.
    repeated = jax.jit(to_local)(initial_params(SHARED), params)
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, repeated, params)
    assert logits(model, params, images()).shape == (3, 5)


@pytest.mark.slow  # tests/dynamics/test_sleep.py has networks by default
def test_a_sleep_phase_ties_all_local_projections():
    config = base_config()
    config.sharing.mode, config.sharing.every, config.sharing.borders = "sleep", 1, "out"
    config.sharing.sleep.iterations = 400
    model = small(depth=1, dense=LocalDense)
    before = random_params(model)
    assert set(layer_windows(model, SHAPE)) == set(weight_snr(before))
    after = share(before, 0, make_sharing(config, model, SHAPE, 10))
    ratios = [
        float(after_ratio / before_ratio)
        for before_ratio, after_ratio in zip(
            weight_snr(before).values(), weight_snr(after).values(), strict=True
        )
    ]
    assert len(ratios) == 5 and min(ratios) > 100
    shared = flatten_dict(share_weights(before))
    for path, leaf in flatten_dict(after).items():
        if path[-1] == "local_kernel":
            np.testing.assert_allclose(leaf.mean(0), shared[path][0], rtol=0, atol=1e-5)
        else:
            np.testing.assert_array_equal(leaf, shared[path])


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="images of 6 x 5 pixels cannot be cut into patches of 2"):
        patches(jnp.ones((1, 6, 5, 3)), 2)
    with pytest.raises(ValueError, match=r"width=8 with heads=3: .* expected a multiple of 3\.$"):
        vit(depth=1, width=8, heads=3, dense=nn.Dense)
    with pytest.raises(ValueError, match=r"'q' is no projection; expected some of \('embedding'"):
        vit(depth=1, width=8, heads=2, dense=nn.Dense, local_projections=("q",))
    with pytest.raises(ValueError, match=r"images of 6 x 5 pixels cannot be cut into patches of 0"):
        patches(jnp.ones((1, 6, 5, 3)), 0)
    for name in ("patch_size", "depth", "width", "heads", "mlp_ratio"):
        sizes = {"depth": 1, "width": 8, "heads": 2} | {name: 0}
        with pytest.raises(ValueError, match=f"{name}=0: expected at least 1"):
            vit(**sizes, dense=nn.Dense)
    assert vit(depth=1, width=8, heads=2, dense=nn.Dense, local_projections="mlp") == vit(
        depth=1, width=8, heads=2, dense=nn.Dense, local_projections=("mlp",)
    )


def test_weights_shared_after_every_step_are_kept_pooled():
    state = state_of(share_weights(random_params(LOCAL)), optax.sgd(0.1))
    pooled = pool_if_shared(state, Sharing(1, "grid", 10)).params
    assert pooled["block0"]["qkv"]["local_kernel"].filters.shape == (1, 1, 8, 24)
