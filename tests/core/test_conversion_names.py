"""Networks whose layers bear the names that Flax gives them: numbers by class."""

from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from jaxws import LocalConv, LocalDense, to_conv, to_local
from jaxws.core.layer_names import pair_layers

IMAGE = (1, 6, 6, 3)


class Chain(nn.Module):
    """Layers one after the other, none of which has a name."""

    layers: tuple

    @nn.compact
    def __call__(self, x):
        for layer in self.layers:
            x = layer()(x)
        return x


def named(kind, **attributes):
    """The same module as another class, as users write two blocks that differ in a layer."""
    return partial(type(kind, (Chain,), {"__module__": __name__}), **attributes)


def params_of(*layers, image=IMAGE):
    """Parameters that differ everywhere, drawn without compiling anything."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(Chain(layers).init, jax.random.key(0), jnp.zeros(image))["params"]
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes)


def conv(features, size=3):
    return partial(nn.Conv, features, (size, size))


def local(features, size=3):
    return partial(LocalConv, features, (size, size))


dense, local_dense = partial(nn.Dense, 5), partial(LocalDense, 5)
TWINS = {  # a convolutional network, its LC twin, and which layer of the one each of the other is
    "all": (
        (conv(4), nn.LayerNorm, conv(4), conv(5), dense),
        (local(4), nn.LayerNorm, local(4), local(5), dense),
        {"LocalConv_0": "Conv_0", "LocalConv_1": "Conv_1", "LocalConv_2": "Conv_2"},
    ),
    "all of twelve, whose numbers are not in the order of letters": (
        (conv(4),) * 12,
        (local(4),) * 12,
        {f"LocalConv_{i}": f"Conv_{i}" for i in range(12)},
    ),
    "all but the first": (
        (conv(4), conv(4), conv(4)),
        (conv(4), local(4), local(4)),
        {"Conv_0": "Conv_0", "LocalConv_0": "Conv_1", "LocalConv_1": "Conv_2"},
    ),
    "the first": (
        (conv(4), conv(4), conv(4)),
        (local(4), conv(4), conv(4)),
        {"LocalConv_0": "Conv_0", "Conv_0": "Conv_1", "Conv_1": "Conv_2"},
    ),
    "one in the middle": (
        (conv(4), conv(5), conv(4)),
        (conv(4), local(5), conv(4)),
        {"Conv_0": "Conv_0", "LocalConv_0": "Conv_1", "Conv_1": "Conv_2"},
    ),
    "linear layers too": (
        (conv(5, 1), dense, dense),
        (local(5, 1), local_dense, local_dense),
        {"LocalConv_0": "Conv_0", "LocalDense_0": "Dense_0", "LocalDense_1": "Dense_1"},
    ),
    "blocks of two classes": (
        (named("ConvBlock", layers=(conv(4), conv(4))),) * 3,
        (named("LocalBlock", layers=(local(4), local(4))),) * 3,
        {
            f"LocalBlock_{i}/LocalConv_{j}": f"ConvBlock_{i}/Conv_{j}"
            for i in (0, 1)
            for j in (0, 1)
        },
    ),
    "some blocks, which differ within": (
        (
            named("Block", layers=(conv(4), conv(4))),
            named("Block", layers=(conv(4), conv(4), conv(4))),
            named("Block", layers=(conv(4), conv(4))),
        ),
        (
            named("Block", layers=(conv(4), conv(4))),
            named("_Sites", layers=(local(4), local(4), local(4))),
            named("Block", layers=(conv(4), conv(4))),
        ),
        {
            "Block_0/Conv_1": "Block_0/Conv_1",
            "_Sites_0/LocalConv_2": "Block_1/Conv_2",
            "Block_1/Conv_1": "Block_2/Conv_1",
        },
    ),
}


def leaf(params, path):
    for name in path.split("/"):
        params = params[name]
    return params.get("local_kernel", params.get("kernel"))


def twins(case):
    before, after, pairs = TWINS[case]
    if case == "linear layers too":
        image = (1, 6, 3)
        before = (partial(nn.Conv, 5, 1), *before[1:])
        after = (partial(LocalConv, 5, 1), *after[1:])
        return params_of(*before, image=image), params_of(*after, image=image), pairs
    return params_of(*before), params_of(*after), pairs


@pytest.mark.parametrize("case", TWINS)
def test_numbers_of_another_class(case):
    before, after, pairs = twins(case)
    there = to_local(before, after)
    assert jax.tree.map(jnp.shape, there) == jax.tree.map(jnp.shape, after)
    for new, old in pairs.items():
        kernel, copies = leaf(before, old), leaf(there, new)
        np.testing.assert_array_equal(copies, np.broadcast_to(kernel, copies.shape))
    back = to_conv(there, before)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), back, before)


@pytest.mark.parametrize("case", ["all", "linear layers too"])
def test_to_conv_gives_the_names_of_flax(case):
    before, after, _ = twins(case)
    back = to_conv(to_local(before, after))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), back, before)


def test_to_conv_says_where_it_cannot_know_the_names():
    _, after, _ = twins("all but the first")
    with pytest.raises(ValueError, match=r"Conv_0, LocalConv_0, LocalConv_1 of one.*Give like="):
        to_conv({"block": after})


def test_other_collections_are_paired_too():
    stats = {"ConvBlock_0": {"BatchNorm_0": {"mean": np.ones(3)}}}
    like = {"LocalBlock_0": {"BatchNorm_0": {"mean": np.zeros(3)}}}
    assert to_local(stats, like, missing_ok=True)["LocalBlock_0"]["BatchNorm_0"]["mean"].sum() == 3


@pytest.mark.parametrize(
    "wrap",
    [
        flax.core.freeze,
        lambda params: nnx.State(jax.tree.map(nnx.Param, params)),
        lambda params: [params, (params,)],
        lambda params: jax.tree.map(lambda x: nn.Partitioned(x, (None,) * x.ndim), params),
    ],
    ids=["frozen", "nnx", "list", "boxes"],
)
def test_any_kind_of_node(wrap):
    before, after, _ = twins("all but the first")
    there, expected = to_local(wrap(before), wrap(after)), to_local(before, after)
    back = to_conv(there, wrap(before))
    assert (type(there), type(back)) == (type(wrap(after)), type(wrap(before)))
    expected = wrap(expected), wrap(to_conv(expected, before))
    for found, leaf in zip(*map(jax.tree.leaves, ((there, back), expected)), strict=True):
        np.testing.assert_array_equal(found, leaf)


@pytest.mark.parametrize("direction", ["to_local", "to_conv"])
def test_layers_that_nothing_tells_apart(direction):
    before = params_of(conv(4), conv(4), conv(4))
    after = params_of(conv(4), conv(4), local(4))
    unsure = params_of(conv(4), local(4), conv(4))
    with pytest.raises(ValueError) as error:
        if direction == "to_local":
            to_local({"net": before}, {"net": unsure})
        else:
            to_conv({"net": unsure}, {"net": before})
    text = str(error.value)
    assert "(3, 3, 4, 4)" in text and "give each layer the same name=" in text
    if direction == "to_local":
        assert (
            "net/LocalConv_0: with local_kernel (6, 6, 3, 3, 4, 4), bias (6, 6, 4), may be" in text
        )
        assert "Conv_1 (kernel (3, 3, 4, 4), bias (4,)) or Conv_2 (kernel" in text
    # That the last one was replaced, shapes do not tell either.
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, unsure)


@pytest.mark.parametrize(
    ("before", "after", "listed"),
    [
        (
            {"conv1": {"kernel": jnp.ones((3, 3, 1, 2))}},
            {"LocalConv_0": {"local_kernel": jnp.ones((4, 4, 3, 3, 1, 2))}},
            [
                "LocalConv_0: missing, local_kernel (4, 4, 3, 3, 1, 2)",
                "conv1: left over, kernel (3",
            ],
        ),
        (
            {f"Conv_{i}": {"kernel": jnp.ones((3, 3, 1, i + 1))} for i in range(3)},
            {
                "Conv_0": {"kernel": jnp.ones((3, 3, 1, 1))},
                "LocalConv_0": {"local_kernel": jnp.ones((4, 4, 3, 3, 1, 2))},
            },
            ["Conv_0: missing, kernel (3, 3, 1, 1)", "Conv_2: left over, kernel (3, 3, 1, 3)"],
        ),
        (
            {f"Conv_{i}": {"kernel": jnp.ones((3, 3, 1, 1))} for i in range(2)},
            {
                "Conv_0": {"kernel": jnp.ones((3, 3, 1, 1))},
                "LocalConv_0": {"local_kernel": jnp.ones((4, 4, 3, 3, 1, 2))},
            },
            ["LocalConv_0: missing, local_kernel (4, 4, 3, 3, 1, 2)", "Conv_1: left over, kernel"],
        ),
    ],
    ids=["one has names", "other numbers", "another width"],
)
def test_layers_without_partner_are_listed(before, after, listed):
    with pytest.raises(ValueError) as error:
        to_local(before, after)
    for text in [*listed, "give each layer the same name="]:
        assert text in str(error.value)


def test_a_layer_of_another_shape_is_told_by_its_name():
    before = {f"Conv_{i}": {"kernel": jnp.ones((3, 3, 1, 1))} for i in range(2)}
    after = {f"LocalConv_{i}": {"local_kernel": jnp.ones((4, 4, 3, 3, 1, 1 + i))} for i in range(2)}
    with pytest.raises(ValueError) as error:
        to_local(before, after)
    text = str(error.value)
    assert "LocalConv_1/local_kernel: has shape (3, 3, 1, 1), expected that of (4, 4," in text
    assert "name=" not in text and "LocalConv_0" not in text


@pytest.mark.parametrize(
    ("kernel", "target"),
    [((1, 2), (4, 4, 3, 3, 1, 2)), ((3, 1, 2), (4, 4, 3, 3, 1, 2)), ((3, 3, 2, 1), (4, 3, 2, 1))],
)
def test_filters_are_repeated_over_positions_only(kernel, target):
    with pytest.raises(ValueError, match="local_kernel: has shape"):
        to_local({"kernel": jnp.ones(kernel)}, {"local_kernel": jnp.ones(target)})


def test_a_matrix_is_not_turned_over():
    params = {"local_kernel": jnp.ones((6, 1, 4, 8))}
    with pytest.raises(ValueError, match=r"kernel: has shape \(1, 4, 8\)"):
        to_conv(params, {"kernel": jnp.ones((8, 4))})


def test_volumes():
    like = {"local_kernel": jnp.ones((2, 3, 4, 1, 1, 1, 5, 6)), "bias": jnp.ones((2, 3, 4, 6))}
    params = {"kernel": jnp.ones((1, 1, 1, 5, 6)), "bias": jnp.ones(6)}
    assert jax.tree.map(jnp.shape, to_local(params, like)) == jax.tree.map(jnp.shape, like)


def test_a_network_that_is_local_in_part_already():
    before = {"LocalConv_0": 1, "Conv_0": 2, "Conv_1": 3}
    after = {"LocalConv_0": 1, "LocalConv_1": 2, "Conv_0": 3}
    found = pair_layers(before, after, lambda source, target: before[source] == after[target])
    assert found.pairs == {
        "LocalConv_0": "LocalConv_0",
        "LocalConv_1": "Conv_0",
        "Conv_0": "Conv_1",
    }


def test_pairs_are_found_fast():
    """Of 60 layers of four classes, none of which shapes tell apart: given up, not searched."""
    sources = [f"{kind}_{i}" for kind in "AB" for i in range(30)]
    targets = [f"{kind}_{i}" for kind in "CDE" for i in range(20)]
    assert len(pair_layers(sources, targets, lambda *_: True).unclear) == 60
