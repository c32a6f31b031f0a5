"""What a user could do where a state dict does not fit a model, and how to say that it does not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jaxws.models.resnet import ResNet
from jaxws.models.torch_weights.names import HEAD, Shape
from jaxws.models.torch_weights.state import State

_MOST_LISTED = 10  # names per kind of problem
_TRANSFORMER = re.compile(r"class_token|cls_token|pos_embed|(^|\.)(attn|\w*attention)\.")
# Parts of names that only other networks have, or weights that are not stored as such.
_TELLING = {
    r"^layer\d+\.\d+\.conv3\.": "it has bottleneck blocks (ResNet-50 and up), which this library"
    " has not.",
    r"weight_[gv]$|parametrizations\.": "weights are kept as factors: take weight norm and other"
    " parametrizations off the module before its state_dict().",
}


def check_kind(state: State, expected: Iterable[str]) -> None:
    """Refuses a state dict of another kind of network, of which a list of names would say nothing.

    Args:
      state: of :func:`jaxws.models.torch_weights.state.read_state`.
      expected: names that the network has in PyTorch.

    Raises:
      ValueError: it has none of these layers.

    Example:
      >>> check_kind(State({"conv1.weight": np.ones((64, 3, 3, 3))}, {}, ""), ["conv1.weight"])
    """
    names = [*state.arrays, *state.others]
    layers = {name for name in expected if name.partition(".")[0] != HEAD}
    if not names or not layers or layers & state.arrays.keys():
        return
    if any(map(_TRANSFORMER.search, names)):
        raise ValueError(
            "the state dict is that of a transformer, which cannot be read: PyTorch's have a class"
            " token and biases, which jaxws.models.vit has not; expected that of a ResNet."
        )
    raise ValueError(
        "the state dict is not that of a ResNet: expected names of torchvision's, such as"
        f" conv1.weight and layer1.0.bn1.bias; its {len(names)} are {', '.join(names[:3])}, ..."
    )


def message(problems: Mapping[str, Sequence[str]], hints: Sequence[str]) -> str:
    """Words the error.

    Args:
      problems: lists of what is wrong, by kind.
      hints: what to do.

    Returns:
      Some lines.

    Example:
      >>> print(message({"missing": ["expected fc.bias (10,)"]}, []))
      the state dict does not fit the model.
      missing (1):
        expected fc.bias (10,)
    """
    lines = ["the state dict does not fit the model."]
    for kind, found in problems.items():
        if found:
            lines.append(f"{kind} ({len(found)}):")
            lines.extend(f"  {problem}" for problem in found[:_MOST_LISTED])
        if len(found) > _MOST_LISTED:
            lines.append(f"  and {len(found) - _MOST_LISTED} more")
    return "\n".join([*lines, *(f"hint: {hint}" for hint in hints)])


def hints_for(model: ResNet, state: State, expected: Mapping[str, Shape]) -> list[str]:
    """Arguments that would make a state dict fit, read off telling names and shapes.

    Args:
      model: the network.
      state: its arrays in PyTorch.
      expected: their shapes, by name.

    Returns:
      Sentences.
    """
    arrays = state.arrays
    names = [*arrays, *state.others]
    hints = [text for part, text in _TELLING.items() if any(re.search(part, n) for n in names)]
    if state.others:
        hints.append(
            f"names were read without their prefix {state.prefix!r}; prefix={state.prefix!r} leaves"
            " out those that have it not."
        )
    hints += _of_shapes(arrays, expected)
    if f"{HEAD}.weight" in expected and f"{HEAD}.weight" not in arrays:
        hints.append("it has no head fc of one layer: fresh_head=jax.random.key(0) draws one.")
    return hints + _of_depth(model, arrays) + _of_kernels(arrays, expected)


def _differing(
    arrays: Mapping[str, np.ndarray], expected: Mapping[str, Shape], name: str, axes: slice
) -> tuple[str, ...]:
    """Sizes along some axes, as given and as expected, where they differ."""
    given, wanted = arrays[name].shape if name in arrays else (), expected.get(name, ())
    if len(given) != len(wanted) or given[axes] == wanted[axes]:
        return ()
    return tuple("x".join(map(str, sizes)) for sizes in (given[axes], wanted[axes]))


def _of_shapes(arrays: Mapping[str, np.ndarray], expected: Mapping[str, Shape]) -> list[str]:
    stem = "the first layer is {0}, the model's {1}: resnet18 has 7x7, resnet_cifar 3x3."
    classes = (
        "num_classes={0} instead of {1}."
        "\n      Or fresh_head=jax.random.key(0), which draws a head of {1} classes."
    )
    channels = "image_shape: it is for images of {0} channels, not {1}."
    texts = [
        ("bn1.weight", slice(1), "width={0} instead of {1}."),
        (f"{HEAD}.weight", slice(1), classes),
        ("conv1.weight", slice(-2, None), stem),
        ("conv1.weight", slice(1, 2), channels),
        ("conv1.weights", slice(-2, None), stem),
        ("conv1.weights", slice(1), channels),
    ]
    found = [(text, _differing(arrays, expected, name, axes)) for name, axes, text in texts]
    return [text.format(*sizes) for text, sizes in found if sizes]


def _of_depth(model: ResNet, arrays: Mapping[str, np.ndarray]) -> list[str]:
    names = re.findall(r"^layer(\d+)\.(\d+)\.", "\n".join(arrays), re.MULTILINE)
    stages = {int(stage): 1 + max(int(b) for s, b in names if s == stage) for stage, _ in names}
    blocks = tuple(stages[stage] for stage in sorted(stages))
    if not blocks or blocks == tuple(model.stage_sizes):
        return []
    return [f"depth: it has {blocks} blocks per stage, the model {model.stage_sizes}."]


def _of_kernels(arrays: Mapping[str, np.ndarray], expected: Mapping[str, Shape]) -> list[str]:
    hints = []
    local = [name for name in arrays if name.endswith(".weights")]
    for name in [name for name in local if name in expected][:1]:
        if sizes := _differing(arrays, expected, name, slice(2, 4)):
            hints.append(
                f"image_shape: the first LC layer is for {sizes[0]} positions, the model's has"
                f" {sizes[1]}."
            )
    if any(name not in expected and name.removesuffix("s") in expected for name in local):
        hints.append(
            "names in .weights are of LC layers, where the model has convolutions: load them into"
            " a model with conv=LocalConv, then average positions by jaxws.to_conv."
        )
    return hints
