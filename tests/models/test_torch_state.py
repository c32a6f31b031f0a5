"""State dicts as tools leave them: what is found in them, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxws.models import ResNet, from_torch_state_dict, vit
from jaxws.models.torch_weights.state import read_state

MODEL = ResNet((1,), 4, 5, nn.Conv)


def plain():
    """The state dict of MODEL."""
    rng = np.random.default_rng(0)
    shapes = {"conv1": (4, 3, 3, 3), "layer1.0.conv1": (4, 4, 3, 3), "layer1.0.conv2": (4, 4, 3, 3)}
    shapes = {f"{name}.weight": shape for name, shape in shapes.items()}
    for norm in ("bn1", "layer1.0.bn1", "layer1.0.bn2"):
        shapes |= dict.fromkeys((f"{norm}.weight", f"{norm}.bias"), (4,))
        shapes |= dict.fromkeys((f"{norm}.running_mean", f"{norm}.running_var"), (4,))
    shapes |= {"fc.weight": (5, 4), "fc.bias": (5,)}
    return {name: rng.uniform(size=shape).astype(np.float32) for name, shape in shapes.items()}


STATE = plain()
HEADLESS = {name: array for name, array in STATE.items() if not name.startswith("fc.")}


def under(prefix, state=STATE):
    return {prefix + name: array for name, array in state.items()}


def renamed(old, new, state=STATE):
    return {name.replace(old, new): array for name, array in state.items()}


def found(checkpoint, entry=None, prefix=None):
    return read_state(checkpoint, STATE, entry=entry, prefix=prefix)


PREFIXES = ["", "backbone.", "model.", "module.", "module.backbone.", "encoder.", "net.", "0."]
PREFIXES += ["_orig_mod.", "model._orig_mod.module.", "a.b.c.d.", "features.", "layer1.", "fc."]
WRITTEN = {
    "a checkpoint": {
        "epoch": 3,
        "arch": "resnet",
        "best_acc1": 93.1,
        "optimizer": {"state": {0: {"exp_avg": np.ones(3)}}, "param_groups": [{"lr": 0.1}]},
        "scheduler": {"last_epoch": 3},
        "state_dict": under("module."),
    },
    "deep in one": {"run": {"last": {"model_state": STATE}}},
    "counters": {
        **STATE,
        "bn1.num_batches_tracked": np.array(7),
        "layer1.0.bn1.num_batches_tracked": np.array(7),
        "total_ops": np.array([1.0]),
        "layer1.0.total_params": np.array([1.0]),
        "n_averaged": np.array(3),
        "epoch": 3,
        "optimizer": {"state": {}},
    },
    "wrappers within": renamed("layer1.0.", "layer1._orig_mod.0._checkpoint_wrapped_module."),
    "linear": renamed("fc.", "linear."),
    "classifier of a Sequential": renamed("fc.", "classifier.1."),
    "head.fc under a prefix": under("module.", renamed("fc.", "head.fc.")),
    "a head beside its backbone": under("backbone.", HEADLESS)
    | {"head.fc.weight": STATE["fc.weight"], "head.fc.bias": STATE["fc.bias"]},
    "both under a prefix": under("model.backbone.", HEADLESS)
    | {"model.fc.weight": STATE["fc.weight"], "model.fc.bias": STATE["fc.bias"]},
}


@pytest.mark.parametrize("checkpoint", [*map(under, PREFIXES), *WRITTEN.values()])
def test_a_network_is_found(checkpoint):
    state = found(checkpoint)
    assert not state.others
    assert state.arrays.keys() == STATE.keys()
    for name, array in STATE.items():
        assert state.arrays[name] is array, name


def test_shortcuts_by_another_name():
    names = ["layer2.0.downsample.0.weight", "layer2.0.downsample.1.running_var"]
    given = {name.replace("downsample", "shortcut"): np.ones(1) for name in names}
    assert list(read_state(given, names, entry=None, prefix=None).arrays) == names


def test_masks_of_pruning_are_applied():
    mask = (np.arange(36) % 2).reshape(1, 4, 3, 3).astype(np.float32)
    given = dict(STATE)
    kernel = given.pop("layer1.0.conv1.weight")
    given |= {"layer1.0.conv1.weight_orig": kernel, "layer1.0.conv1.weight_mask": mask}
    arrays = found(under("net.", given)).arrays
    assert arrays.keys() == STATE.keys()
    np.testing.assert_array_equal(arrays["layer1.0.conv1.weight"], kernel * mask)


@pytest.mark.parametrize(
    ("checkpoint", "choice"),
    [
        ({"model": STATE, "model_ema": renamed("fc", "fc")}, {"entry": "model"}),
        ({"nets": {"ema": STATE, "net": under("module.")}}, {"entry": "nets/ema"}),
        ({**under("encoder_q."), **under("encoder_k.", HEADLESS)}, {"prefix": "encoder_q."}),
        ({**under("student.net."), **under("teacher.net.")}, {"prefix": "student.net"}),
        ({**STATE, **under("ema.")}, {"prefix": ""}),
    ],
)
def test_one_of_several_networks_is_chosen(checkpoint, choice):
    with pytest.raises(ValueError, match=r"holds several .*choose one, as in (entry|prefix)='"):
        found(checkpoint)
    state = found(checkpoint, **choice)
    assert not state.others and state.arrays.keys() == STATE.keys()


@pytest.mark.parametrize(
    ("checkpoint", "choice", "text"),
    [
        ({"model": STATE}, {"entry": "ema"}, r"entry='ema'.*expected one of \['model'\]"),
        (under("net."), {"prefix": "backbone"}, r"prefix='backbone\.': no name.*\['net'\]"),
        ({"epoch": 1, "model": {}}, {}, r"mappings under \['model'\], none of which has weights"),
        ({"optimizer": {"state": {0: {}}}}, {}, "none of which has weights"),
    ],
)
def test_a_choice_that_is_not_there(checkpoint, choice, text):
    with pytest.raises(ValueError, match=text):
        found(checkpoint, **choice)


def test_what_stands_beside_a_prefix():
    given = under("backbone.") | {"neck.weight": np.ones((3, 3))}
    with pytest.raises(ValueError) as error:
        from_torch_state_dict(MODEL, given)
    assert str(error.value).endswith(
        "left over (1):\n  neck.weight (3, 3)\nhint: names were read without their prefix"
        " 'backbone.'; prefix='backbone.' leaves out those that have it not."
    )
    from_torch_state_dict(MODEL, given, prefix="backbone.")


HEADS = {
    "none": HEADLESS,
    "another": HEADLESS | {"fc.weight": np.ones((9, 4)), "fc.bias": np.ones(9)},
    "two layers": HEADLESS | {f"fc.{i}.{n}": np.ones((4, 4)) for i in (0, 2) for n in ("weight",)},
    "beside": under("backbone.", HEADLESS) | {"head.weight": np.ones((9, 4))},
}


@pytest.fixture(scope="module")
def fresh():
    """What the model's own initialisation draws with a key."""
    key, images = jax.random.key(3), jnp.zeros((1, 32, 32, 3))
    return key, jax.jit(lambda key: MODEL.init(key, images)["params"]["fc"])(key)


@pytest.mark.parametrize("head", HEADS)
def test_another_head(fresh, head):
    with pytest.raises(ValueError, match=r"fresh_head=jax.random.key\(0\)"):
        from_torch_state_dict(MODEL, HEADS[head])
    key, expected = fresh
    variables = from_torch_state_dict(MODEL, HEADS[head], fresh_head=key)
    whole = from_torch_state_dict(MODEL, STATE)
    assert jax.tree.structure(variables) == jax.tree.structure(whole)
    jax.tree.map(np.testing.assert_array_equal, variables["params"].pop("fc"), expected)
    del whole["params"]["fc"]
    jax.tree.map(np.testing.assert_array_equal, variables, whole)


def test_a_weight_that_is_not_finite():
    given = STATE | {"bn1.bias": np.array([1, 2, np.nan, 4], np.float32)}
    with pytest.raises(ValueError, match=r"not finite \(1\):\n  bn1.bias \(4,\)$"):
        from_torch_state_dict(MODEL, given)


def test_factors_of_a_weight():
    given = dict(STATE)
    given["conv1.weight_g"] = given["conv1.weight_v"] = given.pop("conv1.weight")
    with pytest.raises(ValueError, match="hint: weights are kept as factors: take weight norm"):
        from_torch_state_dict(MODEL, given)


TRANSFORMERS = {
    "timm": ["cls_token", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "head.weight"],
    "torchvision": ["class_token", "conv_proj.weight", "encoder.layers.0.self_attention.weight"],
    "swin": ["features.1.0.attn.qkv.weight", "norm.weight"],
}


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("names", TRANSFORMERS.values(), ids=TRANSFORMERS)
def test_transformers_are_refused_in_one_line(names, prefix):
    given = {prefix + name: np.ones((2, 2)) for name in names}
    with pytest.raises(ValueError, match="the state dict is that of a transformer") as error:
        from_torch_state_dict(MODEL, given)
    assert "\n" not in str(error.value)


OTHERS = {
    "VGG": ["features.0.weight", "classifier.0.bias"],
    "DenseNet": [f"features.denselayer{i}.conv1.weight" for i in range(9)],
}


@pytest.mark.parametrize("names", OTHERS.values(), ids=OTHERS)
def test_other_networks_are_refused_in_one_line(names):
    given = {name: np.ones((4, 3, 3, 3)) for name in names}
    with pytest.raises(ValueError, match=r"not that of a ResNet: .* its \d are features") as error:
        from_torch_state_dict(MODEL, given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("model", [vit(depth=1, width=4, heads=1, dense=nn.Dense), nn.Dense(3), {}])
def test_models_that_have_no_names_in_pytorch(model):
    with pytest.raises(ValueError, match=f"model is a {type(model).__name__}: .* alone") as error:
        from_torch_state_dict(model, STATE)
    assert "\n" not in str(error.value)
