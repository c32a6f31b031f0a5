"""Weights from PyTorch: a state dict with torchvision's names becomes variables of a ResNet here.

The model decides. Every leaf that its ``init`` would make looks up the name that PyTorch has for
it; whatever is missing, left over or misshapen is reported at once, since such problems have a
common cause (another width, depth or image) that the whole list shows and a single name does not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxws.core.conversion import KERNEL
from jaxws.core.local_kernels import LOCAL_KERNEL
from jaxws.models.resnet import ResNet

Shape = tuple[int, ...]

_WRAPPERS = ("module.", "_orig_mod.")  # of nn.DataParallel and torch.compile
_LEAVES = {
    KERNEL: "weight",
    LOCAL_KERNEL: "weights",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
# By rank, the axes of a PyTorch array in our order: (f,), (out, in), (f, c / groups, i, j) and
# (c / groups, f, h, w, i, j).
_AXES = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0), 6: (2, 3, 4, 5, 0, 1)}
_MOST_LISTED = 10  # names per kind of problem


def from_torch_state_dict(
    model: ResNet,
    state_dict: Mapping[str, Any],
    *,
    image_shape: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Turns the state dict of a PyTorch ResNet into variables of a model of this library.

    Names are torchvision's, such as ``layer2.0.downsample.0.weight``, with or without the prefixes
    that ``DataParallel`` (``module.``) and ``torch.compile`` (``_orig_mod.``) put in front of all
    of them. ``num_batches_tracked`` is ignored. Layers are read as follows:

    ==================  ===================================  ====================================
    PyTorch             shape                                becomes
    ==================  ===================================  ====================================
    ``conv1.weight``    (f, c / groups, i, j)                ``kernel`` (i, j, c / groups, f)
    ``conv1.weights``   (c / groups, f, h, w, i, j)          ``local_kernel``
                                                             (h, w, i, j, c / groups, f)
    ``fc.weight``       (f, c)                               ``kernel`` (c, f)
    ==================  ===================================  ====================================

    Where the model is locally connected and the state dict has a convolution, the filter is
    repeated at every position as by :func:`jaxws.to_local`, so that an LC network can start from
    published weights.

    Args:
      model: the network to load into, of any layers: ``resnet18(...)``, ``resnet_cifar(...)``.
      state_dict: from PyTorch's names to arrays: NumPy arrays, tensors, anything that
        ``np.asarray`` takes, of any floating dtype. PyTorch itself is not needed.
      image_shape: (H, W, c) of the images that the model will see, (32, 32, 3) if None, or
        (224, 224, 3) for a model with ``imagenet_stem``. H and W matter only to LC models, which
        have a filter for each position.

    Returns:
      ``{"params": ..., "batch_stats": ...}`` for ``model.apply``, all float32 copies.

    Raises:
      ValueError: names that are missing or left over, arrays of another shape or not of floating
        dtype (one message lists them all and says which arguments of the model would fit); a
        state dict that is none, or is nested in a checkpoint; an ``image_shape`` that is not three
        positive numbers.

    Example:
      >>> from flax import linen as nn
      >>> from jaxws import LocalConv
      >>> state_dict = {
      ...     "conv1.weight": np.ones((8, 3, 3, 3)),
      ...     **{f"bn1.{name}": np.ones(8) for name in ("weight", "bias")},
      ...     **{f"bn1.running_{name}": np.ones(8) for name in ("mean", "var")},
      ...     "fc.weight": np.ones((10, 8)),
      ...     "fc.bias": np.ones(10),
      ... }
      >>> model = ResNet((), width=8, num_classes=10, conv=nn.Conv)  # no blocks, to be short
      >>> variables = from_torch_state_dict(model, state_dict)
      >>> variables["params"]["conv1"]["kernel"].shape
      (3, 3, 3, 8)
      >>> model = ResNet((), width=8, num_classes=10, conv=LocalConv)
      >>> variables = from_torch_state_dict(model, state_dict, image_shape=(16, 16, 3))
      >>> variables["params"]["conv1"]["local_kernel"].shape
      (16, 16, 3, 3, 3, 8)
      >>> model.apply(variables, jnp.ones((2, 16, 16, 3))).shape
      (2, 10)
    """
    state = _read(state_dict)
    expected: dict[str, Shape] = {}
    used, misshapen, missing, leaves = set(), [], [], {}
    for path, target in _targets(model, image_shape).items():
        options = _torch_shapes(path, target.shape)
        expected |= options
        name = next((option for option in options if option in state), None)
        if name is None:
            wanted = " or ".join(f"{option} {shape}" for option, shape in options.items())
            missing.append(f"expected {wanted}")
            continue
        used.add(name)
        array = state[name]
        if array.shape != options[name] or not jnp.issubdtype(array.dtype, jnp.floating):
            misshapen.append(
                f"{name}: given {array.dtype} {array.shape}, expected float32 {options[name]}"
            )
            continue
        # A copy: on CPUs jnp.asarray may share memory with the array, which PyTorch goes on using.
        leaf = jnp.array(array.transpose(_AXES[array.ndim]), jnp.float32)
        leaves[path] = jnp.broadcast_to(leaf, target.shape)
    left_over = [f"{name} {array.shape}" for name, array in state.items() if name not in used]
    problems = {"misshapen": misshapen, "missing": missing, "left over": left_over}
    if any(problems.values()):
        raise ValueError(_message(problems, _hints(model, state, expected)))
    return unflatten_dict(leaves)


def _targets(
    model: ResNet, image_shape: Sequence[int] | None
) -> dict[tuple[str, ...], jax.ShapeDtypeStruct]:
    """Shapes of all variables by path, such as ("params", "layer1_0", "conv1", "kernel")."""
    if image_shape is None:
        image_shape = (224, 224, 3) if model.imagenet_stem else (32, 32, 3)
    if len(image_shape) != 3 or any(size < 1 for size in image_shape):
        raise ValueError(f"image_shape={image_shape!r}: expected three positive numbers (H, W, c).")
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return flatten_dict(jax.eval_shape(model.init, jax.random.key(0), images))


def _torch_shapes(path: tuple[str, ...], shape: Shape) -> dict[str, Shape]:
    """The names that PyTorch may have for a leaf, best first, with the shapes that it has there."""
    *modules, leaf = path[1:]
    layer = ".".join(re.sub(r"_(\d+)$", r".\1", module) for module in modules)
    options = {f"{layer}.{_LEAVES[leaf]}": shape}
    if leaf == LOCAL_KERNEL:
        options[f"{layer}.{_LEAVES[KERNEL]}"] = shape[2:]
    return {name: _permuted(ours) for name, ours in options.items()}


def _permuted(shape: Shape) -> Shape:
    inverse = np.argsort(_AXES[len(shape)])
    return tuple(shape[axis] for axis in inverse)


def _read(state_dict: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Drops prefixes and batch counters and makes everything else a NumPy array."""
    if not isinstance(state_dict, Mapping) or not all(isinstance(name, str) for name in state_dict):
        raise ValueError(
            f"state_dict is a {type(state_dict).__name__}: expected a mapping from names to arrays,"
            " such as module.state_dict() of PyTorch."
        )
    nested = [name for name, value in state_dict.items() if isinstance(value, Mapping)]
    if nested:
        raise ValueError(
            f"state_dict holds mappings under {nested}: it looks like a whole checkpoint. Pass the"
            f" one with the weights, such as checkpoint[{nested[0]!r}]."
        )
    state = dict(state_dict)
    while prefix := next(
        (p for p in _WRAPPERS if state and all(n.startswith(p) for n in state)), ""
    ):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return {
        name: _as_array(name, value)
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }


def _as_array(name: str, value: Any) -> np.ndarray:
    try:
        if hasattr(value, "detach"):  # a tensor: NumPy knows neither gradients, GPUs nor bfloat16
            value = value.detach().cpu()
            value = value.float() if value.is_floating_point() else value
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"state_dict[{name!r}], a {type(value).__name__}, cannot be read as an array: {error}"
        ) from error


def _message(problems: Mapping[str, Sequence[str]], hints: Sequence[str]) -> str:
    lines = ["the state dict does not fit the model."]
    for kind, found in problems.items():
        if found:
            lines.append(f"{kind} ({len(found)}):")
            lines.extend(f"  {problem}" for problem in found[:_MOST_LISTED])
        if len(found) > _MOST_LISTED:
            lines.append(f"  and {len(found) - _MOST_LISTED} more")
    return "\n".join([*lines, *(f"hint: {hint}" for hint in hints)])


def _hints(
    model: ResNet, state: Mapping[str, np.ndarray], expected: Mapping[str, Shape]
) -> list[str]:
    """Arguments of the model that would make the state dict fit, read off telling shapes."""
    hints = []

    def compare(name: str, axes: slice, text: str) -> None:
        given, wanted = state[name].shape if name in state else (), expected.get(name, ())
        if len(given) == len(wanted) and given[axes] != wanted[axes]:
            sizes = ("x".join(map(str, sizes)) for sizes in (given[axes], wanted[axes]))
            hints.append(text.format(*sizes))

    compare("bn1.weight", slice(1), "width={0} instead of {1}.")
    compare("fc.weight", slice(1), "num_classes={0} instead of {1}.")
    names = re.findall(r"^layer(\d+)\.(\d+)\.", "\n".join(state), re.MULTILINE)
    stages = {int(stage): 1 + max(int(b) for s, b in names if s == stage) for stage, _ in names}
    blocks = tuple(stages[stage] for stage in sorted(stages))
    if blocks and blocks != tuple(model.stage_sizes):
        hints.append(f"depth: it has {blocks} blocks per stage, the model {model.stage_sizes}.")
    if any(re.search(r"^layer\d+\.\d+\.conv3\.", name) for name in state):
        hints.append("it has bottleneck blocks (ResNet-50 and up), which this library has not.")
    stem = "the first layer is {0}, the model's {1}: resnet18 has 7x7, resnet_cifar 3x3."
    for name, channels in (("conv1.weight", slice(1, 2)), ("conv1.weights", slice(1))):
        compare(name, slice(-2, None), stem)
        compare(name, channels, "image_shape: it is for images of {0} channels, not {1}.")
    local = [name for name in state if name.endswith(".weights")]
    positions = "image_shape: the first LC layer is for {0} positions, the model's has {1}."
    for name in [name for name in local if name in expected][:1]:
        compare(name, slice(2, 4), positions)
    if any(name not in expected and name.removesuffix("s") in expected for name in local):
        hints.append(
            "names in .weights are of LC layers, where the model has convolutions: load them into"
            " a model with conv=LocalConv, then average positions by jaxws.to_conv."
        )
    return hints
