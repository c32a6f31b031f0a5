"""Activations of every layer against the network written anew in NumPy, and names of layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from jaxws import LocalConv, LocalDense
from jaxws.analysis import activations, layer_names, untrained
from jaxws.analysis.layer_outputs import iter_activations
from jaxws.models import Loaded, ResNet, load, vit
from jaxws.training.state import create_train_state
from tests.support.small_run import assert_same_bits


@pytest.fixture(scope="module")
def network():
    return load("small/lc-ws1")


@pytest.fixture(scope="module")
def images(network):
    pixels = np.random.default_rng(0).integers(256, size=(5, 24, 24, 1), dtype=np.uint8)
    return np.asarray(network.normalise(pixels))


@pytest.fixture(scope="module")
def found(network, images):
    """Of all layers, in three batches of which the last one is filled up."""
    return activations(*network[:2], images, batch_size=2)


def by_hand(variables, x):
    """Every layer of the ResNet-8, position by position."""
    params, stats, made = variables["params"], variables["batch_stats"], {}

    def leaf(tree, path):
        for key in path.split("/"):
            tree = tree[key]
        return tree

    def local(x, path, stride):
        kernel = leaf(params, path)["local_kernel"].astype(float)  # (h, w, i, j, c, f)
        size, pad = kernel.shape[2], kernel.shape[2] // 2
        x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        y = np.empty((len(x), *kernel.shape[:2], kernel.shape[-1]))
        for h, w in np.ndindex(kernel.shape[:2]):
            patch = x[:, h * stride : h * stride + size, w * stride : w * stride + size]
            y[:, h, w] = np.tensordot(patch, kernel[h, w], axes=3)
        made[path] = y
        return y

    def norm(x, path):
        at, of = leaf(stats, path), leaf(params, path)
        made[path] = (x - at["mean"]) / np.sqrt(at["var"] + 1e-5) * of["scale"] + of["bias"]
        return made[path]

    x = np.maximum(norm(local(x, "conv1", 1), "bn1"), 0)
    for block, stride in (("layer1_0", 1), ("layer2_0", 2), ("layer3_0", 2)):
        y = np.maximum(norm(local(x, f"{block}/conv1", stride), f"{block}/bn1"), 0)
        y = norm(local(y, f"{block}/conv2", 1), f"{block}/bn2")
        if stride == 2:
            x = norm(local(x, f"{block}/downsample_0", 2), f"{block}/downsample_1")
        x = made[block] = np.maximum(x + y, 0)
    head = params["fc"]
    made["fc"] = x.mean((1, 2)) @ head["kernel"] + head["bias"]
    return made


@pytest.mark.versions
def test_every_layer_is_what_it_is_by_hand(network, images, found):
    expected = by_hand(network.variables, images)
    assert found.keys() == expected.keys()
    for name, made in expected.items():
        np.testing.assert_allclose(found[name], made, rtol=1e-3, atol=1e-3, err_msg=name)
    logits = jax.jit(network.model.apply)(network.variables, images)
    np.testing.assert_allclose(found["fc"], logits, rtol=1e-5, atol=1e-5)


def test_names_come_in_the_order_of_computation(network, found):
    names = layer_names(network.model, network.variables, (24, 24, 1))
    assert {name: each.shape[1:] for name, each in found.items()} == names
    assert list(names)[:3] == ["conv1", "bn1", "layer1_0/conv1"]
    assert list(names)[-2:] == ["layer3_0", "fc"]


def test_batches_of_any_size_give_the_same(network, images, found):
    """One program: later batches are filled up, and what fills them is cut off again."""
    batches = iter_activations(*network[:2], (images[:2], images[2:3]), ["layer2_0", "fc"])
    first, second = batches
    assert list(first) == ["layer2_0", "fc"] and len(second["fc"]) == 1
    np.testing.assert_allclose(second["layer2_0"][0], found["layer2_0"][2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"layers": ["conv2"]}, "no layer 'conv2'; there are conv1, bn1, layer1_0/conv1, "),
        ({"layers": "conv1"}, "layers='conv1': expected a list of names"),
        ({"images": np.zeros((24, 24, 1))}, r"shape \(24, 24, 1\): expected \(n, H, W, c\)"),
        ({"images": np.zeros((0, 24, 24, 1))}, "with n of 1 or more"),
        ({"batch_size": 0}, "batch_size=0: expected 1 or more"),
    ],
)
def test_what_cannot_be_given(network, images, arguments, expected):
    with pytest.raises(ValueError, match=expected):
        activations(*network[:2], **{"images": images, **arguments})


class Odd(nn.Module):
    """A layer of batch-last images, one that is called twice, one that returns two arrays."""

    @nn.compact
    def __call__(self, x):
        x = LocalConv(3, (3, 3), batch_last=True, name="last")(jnp.moveaxis(x, 0, -1))
        x = jnp.moveaxis(x, -1, 0)
        twice = nn.Dense(3, name="twice")
        x = twice(twice(x))
        both, _ = Both(name="both")(x)
        NoBatch(name="no_batch")(x)
        return nn.softmax(both)


class Both(nn.Module):
    def __call__(self, x):
        return x, x[..., :1]


class NoBatch(nn.Module):
    def __call__(self, x):
        return x.sum(0)


def names_of(model, shape):
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, *shape)))
    return layer_names(model, variables, shape)


def test_names_of_odd_layers():
    assert names_of(Odd(), (4, 5, 2)) == {
        "last": (4, 5, 3),
        "twice": (4, 5, 3),
        "twice[1]": (4, 5, 3),
        "both[0/0]": (4, 5, 3),
        "both[0/1]": (4, 5, 1),
    }
    assert names_of(LocalConv(3, (3, 3)), (4, 5, 2)) == {"": (4, 5, 3)}


def test_a_layer_within_a_layer_of_the_same_name_is_listed_once():
    names = names_of(vit(4, depth=1, width=8, heads=2, dense=LocalDense), (8, 8, 1))
    assert list(names) == [
        "embedding",
        *(f"block0/{part}" for part in ("norm1", "qkv", "out", "norm2", "mlp1", "mlp2")),
        "block0",
        "norm",
        "fc",
    ]


def test_half_precision_comes_as_float32():
    model = nn.Dense(2, dtype=jnp.bfloat16)
    images = np.ones((1, 2, 2, 3), np.float32)
    variables = model.init(jax.random.key(0), images)
    assert activations(model, variables, images)[""].dtype == np.float32


def test_the_control_is_what_a_run_of_its_seed_starts_from():
    model = ResNet(stage_sizes=(), width=8, num_classes=10, conv=LocalConv)
    trained = Loaded(model, {}, ConfigDict(), {"data": {"image_shape": [12, 12, 1]}, "step": 9})
    control = untrained(trained, 7)
    start = jax.jit(lambda key: create_train_state(key, model, optax.sgd(1.0), (12, 12, 1)))
    state = start(jax.random.key(7))
    assert_same_bits(control.variables, {"params": state.params, "batch_stats": state.batch_stats})
    assert control.model == model and control.info["step"] == 0
    kernel = control.variables["params"]["conv1"]["local_kernel"]
    assert np.var(kernel) * 9 * 8 == pytest.approx(2, rel=0.05)  # Kaiming's, by a fan-out of 9 * 8
    assert untrained(trained, 8).variables["params"]["conv1"]["local_kernel"][0, 0].max() != (
        kernel[0, 0].max()
    )
