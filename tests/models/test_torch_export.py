"""Variables as a state dict of PyTorch, and back to the same bits."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxws import LocalConv
from jaxws.__main__ import main
from jaxws.commands.export_weights import check_format, flat_arrays, write
from jaxws.core.pooled import pool_kernels
from jaxws.models import ResNet, from_torch_state_dict, to_torch_state_dict, vit

SHAPE = (9, 8, 3)
LAYERS = {"conv": (nn.Conv, None), "local": (LocalConv, None), "mixed": (LocalConv, nn.Conv)}


def build(layers):
    """Two stages, of which the second has a layer on its shortcut."""
    conv, first_conv = LAYERS[layers]
    return ResNet((1, 1), 4, 5, conv, first_conv, imagenet_stem=layers == "mixed")


def drawn(model):
    rng = np.random.default_rng(0)
    images = jnp.zeros((1, *SHAPE))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("layers", LAYERS)
def test_there_and_back(layers):
    model = build(layers)
    variables = drawn(model)
    state = to_torch_state_dict(variables)
    back = from_torch_state_dict(model, state, image_shape=SHAPE)
    jax.tree.map(np.testing.assert_array_equal, back, variables)
    assert jax.tree.structure(back) == jax.tree.structure(variables)
    again = to_torch_state_dict(back)
    assert again.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(again[name], array)
        assert array.flags.c_contiguous and array.flags.writeable
    kernel = "layer2.0.downsample.0.weight" + "s" * (layers != "conv")
    assert state[kernel].shape[:2] == ((8, 4) if layers == "conv" else (4, 8))


def test_pooled_frozen_and_half_precision():
    variables = drawn(ResNet((), 4, 5, LocalConv))
    pooled = pool_kernels(jax.tree.map(jnp.ones_like, variables["params"]))
    state = to_torch_state_dict(flax.core.freeze(variables | {"params": pooled}))
    assert state["conv1.weights"].shape == (3, 4, 9, 8, 3, 3)
    half = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), variables)
    given, arrays = half["params"]["fc"]["kernel"], to_torch_state_dict(half)
    assert arrays["fc.weight"].dtype == np.float32
    np.testing.assert_array_equal(arrays["fc.weight"].T, given.astype(jnp.float32))


def drawn_of_vit():
    model = vit(4, depth=1, width=4, heads=1, dense=nn.Dense)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes)


def replicated():
    return jax.tree.map(lambda leaf: np.stack([leaf, leaf]), drawn(build("conv")))


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        (None, "variables are NoneType: expected params and batch_stats"),
        ({"conv1": {}}, r"variables are \['conv1'\]: expected params and batch_stats"),
        ({"params": {}, "batch_stats": {}}, "variables lack batch_stats/bn1/mean"),
        (drawn_of_vit, "variables have params/.*, which no ResNet of PyTorch has"),
        (replicated, r"of shape \(2, .*leading device axis"),
    ],
)
def test_what_pytorch_has_not(variables, text):
    with pytest.raises(ValueError, match=text) as error:
        to_torch_state_dict(variables() if callable(variables) else variables)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "suffix", ["npz", "safetensors", pytest.param("pth", marks=pytest.mark.torch)]
)
def test_files_that_export_writes(tmp_path, suffix):
    pytest.importorskip({"pth": "torch", "npz": "numpy"}.get(suffix, suffix))
    model, path = build("conv"), tmp_path / f"w.{suffix}"
    variables = drawn(model)
    check_format(path)
    write(path, flat_arrays(variables, "torch"), {"format": "any"})
    back = from_torch_state_dict(model, path, image_shape=SHAPE)
    jax.tree.map(np.testing.assert_array_equal, back, variables)


def test_a_file_of_pytorch_has_its_names(capsys):
    with pytest.raises(SystemExit):
        main(["export", "no_such_run", "--out=w.pth"])
    assert (
        "--out=w.pth: such a file has PyTorch's names: add --names=torch" in capsys.readouterr().err
    )
