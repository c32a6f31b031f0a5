"""One message lists everything that does not fit, and says what would."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxws import LocalConv
from jaxws.models import ResNet, from_torch_state_dict, resnet_cifar

SHAPE = (9, 8, 3)


def build(blocks=(1,), width=4, num_classes=5, conv=nn.Conv, **others):
    return ResNet(blocks, width, num_classes, conv, **others)


def state_dict(blocks=1, width=4, num_classes=5, channels=3, k=3, positions=None):
    """Of a net with one stage: no shortcut needs a layer."""
    state = {"fc.weight": np.ones((num_classes, width)), "fc.bias": np.ones(num_classes)}
    convs = {"conv1": (channels, k)}
    for block in range(blocks):
        convs |= {f"layer1.{block}.conv{i}": (width, 3) for i in (1, 2)}
    for name, (c, size) in convs.items():
        if positions is None:
            state[f"{name}.weight"] = np.ones((width, c, size, size))
        else:
            state[f"{name}.weights"] = np.ones((c, width, *positions, size, size))
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name.replace('conv', 'bn')}.{leaf}"] = np.ones(width)
    return state


def message(model, state, **arguments):
    with pytest.raises(ValueError) as caught:
        from_torch_state_dict(model, state, **arguments)
    return str(caught.value)


def test_these_state_dicts_fit_otherwise():
    from_torch_state_dict(build(), state_dict())
    from_torch_state_dict(build(conv=LocalConv), state_dict(), image_shape=SHAPE)
    state = state_dict(positions=SHAPE[:2])
    from_torch_state_dict(build(conv=LocalConv), state, image_shape=SHAPE)


def test_every_problem_is_listed_with_its_shapes():
    state = state_dict()
    del state["bn1.running_var"], state["layer1.0.conv2.weight"]
    state["fc.bias"] = np.ones(6)
    state["layer1.0.conv1.weight"] = state["layer1.0.conv1.weight"].astype(np.int32)
    state["aux.weight"] = np.ones((2, 3))
    assert message(build(), state).splitlines() == [
        "the state dict does not fit the model.",
        "misshapen (2):",
        "  fc.bias: given float64 (6,), expected float32 (5,)",
        "  layer1.0.conv1.weight: given int32 (4, 4, 3, 3), expected float32 (4, 4, 3, 3)",
        "missing (2):",
        "  expected bn1.running_var (4,)",
        "  expected layer1.0.conv2.weight (4, 4, 3, 3)",
        "left over (1):",
        "  aux.weight (2, 3)",
    ]


def test_missing_lc_kernels_name_both_choices():
    state = state_dict()
    del state["conv1.weight"]
    text = message(build(conv=LocalConv), state, image_shape=SHAPE)
    assert "expected conv1.weights (3, 4, 9, 8, 3, 3) or conv1.weight (4, 3, 3, 3)" in text


def test_long_lists_are_cut_off():
    state = state_dict(blocks=3)
    text = message(build(), state)
    assert "left over (20):" in text
    assert text.count("\n  layer1.") == 10
    assert "\n  and 10 more\n" in text
    assert "missing" not in text and "misshapen" not in text
    text = message(build((3,)), state_dict())
    assert "missing (20):" in text and "\n  and 10 more\n" in text


@pytest.mark.parametrize(
    ("state", "hint"),
    [
        ({"width": 8}, "width=8 instead of 4."),
        ({"num_classes": 1000}, "num_classes=1000 instead of 5."),
        ({"blocks": 2}, "depth: it has (2,) blocks per stage, the model (1,)."),
        ({"channels": 1}, "image_shape: it is for images of 1 channels, not 3."),
        ({"k": 7}, "the first layer is 7x7, the model's 3x3: resnet18 has 7x7, resnet_cifar 3x3."),
    ],
)
@pytest.mark.parametrize("local", [False, True], ids=["conv", "local"])
def test_hint(state, hint, local):
    conv, positions = (LocalConv, SHAPE[:2]) if local else (nn.Conv, None)
    text = message(build(conv=conv), state_dict(**state, positions=positions), image_shape=SHAPE)
    assert [line for line in text.splitlines() if "hint" in line] == ["hint: " + hint]


def test_hint_at_the_image_shape_of_lc_kernels():
    text = message(build(conv=LocalConv), state_dict(positions=SHAPE[:2]))
    assert "conv1.weights: given float64 (3, 4, 9, 8, 3, 3), expected float32 (3, 4, 32," in text
    assert text.count("hint") == 1
    assert text.endswith("the first LC layer is for 9x8 positions, the model's has 32x32.")


def test_lc_kernels_do_not_fit_convolutions():
    text = message(build(), state_dict(positions=SHAPE[:2]))
    assert "expected conv1.weight (4, 3, 3, 3)" in text
    assert "conv1.weights (3, 4, 9, 8, 3, 3)" in text
    assert text.count("hint") == 1 and "jaxws.to_conv" in text


def test_hint_at_bottleneck_blocks():
    state = state_dict() | {"layer1.0.conv3.weight": np.ones((16, 4, 1, 1))}
    assert "bottleneck" in message(build(), state)


def test_both_kernels_of_a_layer_are_one_too_many():
    state = state_dict() | state_dict(positions=SHAPE[:2])
    text = message(build(conv=LocalConv), state, image_shape=SHAPE)
    assert "left over (3):\n  conv1.weight (4, 3, 3, 3)" in text


@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 0), (1, 32, 32, 3)])
def test_image_shape(shape):
    assert "three positive numbers" in message(build(), state_dict(), image_shape=shape)


@pytest.mark.parametrize("state", [None, nn.Dense(3), [("conv1.weight", 1)], {3: np.ones(3)}])
def test_no_state_dict(state):
    assert "expected a mapping from names to arrays" in message(build(), state)


def test_empty_state_dict():
    assert "missing (17):" in message(build(), {})


class FakeTensor:
    """As PyTorch's bfloat16 tensors with gradients on a GPU."""

    def __init__(self, array, done=()):
        self.array, self.done = array, set(done)

    def detach(self):
        return FakeTensor(self.array, self.done | {"detach"})

    def cpu(self):
        return FakeTensor(self.array, self.done | {"cpu"})

    def float(self):
        return FakeTensor(self.array.astype(np.float32), self.done | {"float"})

    def is_floating_point(self):
        return True

    def __array__(self, dtype=None, copy=None):
        if self.done != {"detach", "cpu", "float"}:
            raise TypeError("not that kind of tensor")
        return self.array


def test_tensors_are_brought_into_a_readable_form():
    state = {name: array.astype(jnp.bfloat16) for name, array in state_dict().items()}
    jax.tree.map(
        np.testing.assert_array_equal,
        from_torch_state_dict(build(), {name: FakeTensor(array) for name, array in state.items()}),
        from_torch_state_dict(build(), state),
    )


def test_unreadable_array():
    text = message(build(), state_dict() | {"fc.bias": [[1.0], [1.0, 2.0]]})
    assert text.startswith("state_dict['fc.bias'], a list, cannot be read as an array")


def test_depth_of_resnet_cifar():
    model = resnet_cifar(8, width=4, num_classes=5, conv=nn.Conv)
    assert "it has (1,) blocks per stage, the model (1, 1, 1)" in message(model, state_dict())
