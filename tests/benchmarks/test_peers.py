"""All peers of the benchmarks compute the same, and a step costs what is said."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import harness, jax_peers, lc_step, plot, problem
from jaxws import LocalConv, share_weights
from jaxws.core.named_leaves import named_leaves
from jaxws.core.pooled import expand_pools
from jaxws.models import ResNet, from_torch_state_dict, resnet18, resnet_cifar

SMALL = problem.Problem(batch=3, depth=8, width=4, image=9, classes=5)
STAGES = (0, 1)  # no block of the first stage, and one that halves the image
BASELINE = 1e-4


def test_layers_are_those_of_the_networks():
    for layers, model, size in (
        (problem.resnet_cifar_layers(14, 4, 30), resnet_cifar(14, width=4, conv=LocalConv), 30),
        (problem.resnet18_layers(8, 70), resnet18(width=8, conv=LocalConv), 70),
    ):
        images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        shapes = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
        found = {
            name.removesuffix("/local_kernel"): leaf.shape
            for name, leaf in named_leaves(shapes).items()
            if name.endswith("/local_kernel")
        }
        expected = {
            layer.name.replace(".conv", "/conv").replace(".down", "/down").replace(".", "_"): (
                *(layer.positions, layer.positions, layer.kernel, layer.kernel),
                *(layer.channels, layer.features),
            )
            for layer in layers
        }
        assert found == expected


def test_cost_of_a_step_by_hand():
    # One 3x3 stem of 5 x 5 positions, and two layers of 25 + 9 + 9 + ... positions per stage.
    step = problem.Problem(batch=2, depth=8, width=1, image=5, classes=7)
    stem, same = 25 * 9 * 3, 2 * 25 * 9
    second = 9 * 9 * 1 * 2 + 9 * 9 * 2 * 2 + 9 * 1 * 2
    third = 4 * 9 * 2 * 4 + 4 * 9 * 4 * 4 + 4 * 2 * 4
    weights = stem + same + second + third
    cost = problem.step_cost(step)
    assert cost == {"flops": 2 * 2 * (3 * (weights + 4 * 7) - stem), "bytes": 24 * weights}
    floor = problem.floor_seconds(cost, {"flops": cost["flops"] / 3, "bytes": cost["bytes"] / 2})
    assert floor == {"flops_seconds": 3.0, "bytes_seconds": 2.0, "seconds": 3.0}


def test_weights_and_images_are_the_same_in_every_process():
    for local in (False, True):
        first, second = (problem.state_dict(SMALL, local=local) for _ in range(2))
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[name], second[name]) for name in first)
    np.testing.assert_array_equal(problem.make_batch(SMALL)[0], problem.make_batch(SMALL)[0])


def spread(params):
    return jax.device_get(jax.jit(expand_pools)(params))


@pytest.fixture(scope="module")
def small_network():
    """Every kind of layer once, in all peers; a benchmark compares whole networks as it runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(problem, "stage_sizes", lambda _: STAGES)
        yield


@pytest.fixture(scope="module")
def ours(small_network):
    peer = jax_peers.Peer("ours", SMALL)
    return [peer.step() for _ in range(3)], spread(peer.state.params)


@pytest.mark.parametrize("name", ["unpooled", "slices", "conv_local"])
def test_peers_in_jax_compute_the_same(name, ours):
    peer = jax_peers.Peer(name, SMALL)
    losses, params = ours
    assert harness.disagreement([peer.step() for _ in range(3)], losses, BASELINE) is None
    if name == "conv_local":
        params = jax_peers.map_local_kernels(
            lambda _, kernel: jax_peers.channel_major(kernel), params
        )
    close(spread(peer.state.params), params)


def test_conv_local_is_flax_s_layer():
    layer = {"features": 4, "kernel_size": (3, 3), "strides": 2, "padding": 1, "use_bias": False}
    x = jax.random.normal(jax.random.key(0), (2, 7, 7, 3))
    theirs, ours = nn.ConvLocal(**layer), jax_peers.FlaxConvLocal(**layer)
    params = jax.device_get(jax.jit(theirs.init)(jax.random.key(1), x)["params"])
    kernel = params["kernel"].reshape(4, 4, 3, 3, 3, 4)
    y = jax.jit(ours.apply)({"params": {"local_kernel": kernel}}, x)
    np.testing.assert_array_equal(y, jax.jit(theirs.apply)({"params": params}, x))
    # Sharing averages every k-th position of the kernel as Flax shapes it.
    shared = jax.jit(share_weights)({"local_kernel": kernel})["local_kernel"]
    shared = jax.device_get(shared).reshape(4, 4, 27, 4)
    pool = params["kernel"][::3, 1::3]
    np.testing.assert_allclose(shared[3, 1], pool.mean((0, 1)), rtol=1e-5, atol=1e-7)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["torch", "torch_published"])
def test_peers_in_pytorch_compute_the_same(name, ours):
    pytest.importorskip("torch")
    from benchmarks import torch_lc

    peer = torch_lc.Peer(name, SMALL)
    losses, params = ours
    assert harness.disagreement([peer.step() for _ in range(3)], losses, BASELINE) is None
    state = {}
    for layer in problem.layers_of(SMALL):
        key = layer.name.replace(".", "_")
        state[f"{layer.name}.weights"] = peer.net.convs[key].published()
        for leaf, value in peer.net.norms[key].state_dict().items():
            state[f"{layer.norm}.{leaf}"] = value
    state |= {f"fc.{leaf}": value for leaf, value in peer.net.fc.state_dict().items()}
    model = ResNet(STAGES, 4, 5, LocalConv)
    close(from_torch_state_dict(model, state, image_shape=(9, 9, 3))["params"], params)


@pytest.mark.torch
def test_convolutional_peers_compute_the_same(small_network):
    pytest.importorskip("torch")
    from benchmarks import torch_lc

    jaxs, torchs = jax_peers.Peer("conv", SMALL), torch_lc.Peer("torch_conv", SMALL)
    expected = [torchs.step() for _ in range(3)]
    assert harness.disagreement([jaxs.step() for _ in range(3)], expected, BASELINE) is None


def test_known_peers():
    names = set(jax_peers.PEERS)
    assert names <= {*lc_step.LOCAL, *lc_step.CONVOLUTIONAL} == set(plot.LABELS)
    pytest.importorskip("torch")
    from benchmarks import torch_lc

    assert names | set(torch_lc.PEERS) == set(plot.LABELS)


def close(a, b):
    # AdamW's first updates have the size of the learning rate, 1e-3, whatever the gradient's.
    chex.assert_trees_all_close(jax.device_get(a), jax.device_get(b), rtol=1e-3, atol=1e-4)
