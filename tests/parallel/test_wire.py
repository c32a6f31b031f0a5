"""Bytes that devices send, by arithmetic, and the mesh that is chosen by it."""

import math

import jax
import jax.numpy as jnp
import pytest

from jaxws import LocalConv
from jaxws.core.window import make_window
from jaxws.layers.windows import layer_windows
from jaxws.models import resnet18
from jaxws.parallel.choice import choose_mesh
from jaxws.parallel.wire import Layer, Network, Step, network_of, state_bytes, traffic


@pytest.fixture(scope="module")
def imagenet():
    """0.5x LC ResNet-18 on 224 pixels: shapes only."""
    model, shape = resnet18(conv=LocalConv, dtype=jnp.bfloat16), (224, 224, 3)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))["params"]
    return network_of(params, layer_windows(model, shape))


def _traffic(network, mesh, images, pooled):
    sizes = dict(zip(("data", "h", "w"), mesh, strict=True))
    return traffic(network, sizes, Step(images, itemsize=2, pooled=pooled))


# GB per device and step in bfloat16: computed independently of this module (2 digits), with one sum
# over pools, where there are three per step.
_TABLE = [
    (256, (8, 1, 1), 1.69, 1.69),
    (256, (1, 4, 2), 0.27, 0.44),
    (256, (4, 4, 4), 0.20, 0.20),
    (2048, (1, 4, 2), 1.77, 3.44),
    (2048, (4, 4, 4), 0.54, 0.90),
]


@pytest.mark.parametrize(("images", "mesh", "ws1", "never"), _TABLE)
def test_traffic_of_the_imagenet_network_is_that_of_the_study(imagenet, images, mesh, ws1, never):
    pooled, plain = (_traffic(imagenet, mesh, images, pooled) for pooled in (True, False))
    two_sums = 2 / 3 * plain.pools
    assert (pooled.total - two_sums) / 1e9 == pytest.approx(ws1, rel=0.07)
    assert (plain.total - two_sums) / 1e9 == pytest.approx(never, rel=0.05)


def test_traffic_of_a_small_layer_by_hand():
    """Positions split over h, features over w: 6 columns cannot be divided by 4."""
    window = make_window((8, 6), (3, 3), 1, 1)
    layer = Layer((8, 6, 3, 3, 2, 4), window)
    sizes = {"data": 3, "h": 2, "w": 4}
    images, devices = 20 * 24, 24
    found = traffic(Network((layer,), plain=7), sizes, Step(images, itemsize=2))
    each = images // devices
    # Two parts of 4 rows see 6 rows each; half of that and of the outputs goes to the other part.
    x = 2 * 6 * 6 * 2 * each
    y = 8 * 6 * 4 * each
    exchange = x / 2 + x * 3 + y / 2 + y * 3 / 4
    assert found.exchange == 2 * 2 * exchange
    assert found.pools == 2 * (1 / 2) * (3 * 3 * 3 * 3 * 2 * 4 / 4) * 4 * 3
    assert found.gradients == 2 * (2 / 3) * (layer.weights / 8) * 2
    assert found.plain == pytest.approx(2 * (23 / 24) * 7 * 4)
    # Parts of a batch add up their gradients one by one; with pooled filters, y and dx stay.
    parts = traffic(Network((layer,), 7), sizes, Step(images, 2, accumulate=3))
    assert (parts.exchange, parts.gradients) == (found.exchange, 3 * found.gradients)
    always = traffic(Network((layer,), 7), sizes, Step(images, 2, pooled=True))
    assert always.exchange == found.exchange / 2
    gathered = 3 / 4 * (3 * 3 * 3 * 3 * 2 * 4) * 2
    assert always.pools == found.pools + gathered
    # Few images on a device go to the positions, so that no device needs the filters of all.
    few = traffic(Network((layer,), 7), sizes, Step(images // 2, 2, pooled=True))
    assert (few.exchange, few.pools) == (found.exchange / 2, found.pools)
    assert state_bytes(Network((layer,), 7), sizes, moments=1) == (layer.weights // 8 + 7) * 8


@pytest.mark.parametrize(
    ("devices", "images", "pooled", "expected"),
    [
        (1, 256, True, "1x1x1"),
        (8, 256, True, "1x4x2"),
        (8, 256, False, "1x4x2"),
        (8, 2048, True, "8x1x1"),
        (8, 2048, False, "8x1x1"),
        (64, 256, False, "4x4x4"),
        (256, 2048, True, "16x4x4"),
    ],
)
def test_the_mesh_that_sends_least_is_chosen(imagenet, devices, images, pooled, expected):
    choice = choose_mesh(devices, imagenet, Step(images, 2, pooled=pooled), moments=2)
    assert choice.candidates[0].name == expected
    assert math.prod(choice.sizes.values()) == devices
    assert any(candidate.is_data_parallel for candidate in choice.candidates)
    assert f"mesh {expected} (data x h x w): " in choice.reason


def test_the_reason_names_what_else_there_was(imagenet):
    choice = choose_mesh(8, imagenet, Step(2048, 2, pooled=True), moments=2)
    assert choice.reason.endswith(
        "data parallel, a device sends 1.69 GB per step; 2x2x2 would save 13% of it, and layers"
        " are split for 25% at least"
    )
    assert choice.candidates[0].row() == ("8x1x1", "1.69 GB", "3.97 GB")
    plain = choose_mesh(8, Network((), plain=10), Step(8, 4), moments=2)
    assert plain.sizes == {"data": 8, "h": 1, "w": 1}
