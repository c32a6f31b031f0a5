"""What PyTorch calls the arrays of a ResNet, and in which order it has their axes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from jaxws.core.conversion import KERNEL
from jaxws.core.local_kernels import LOCAL_KERNEL

Shape = tuple[int, ...]

HEAD = "fc"
COUNTER = "num_batches_tracked"  # of nn.BatchNorm2d, which nothing here needs
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


def torch_names(path: Sequence[str], shape: Shape) -> dict[str, Shape]:
    """The names that PyTorch may have for a leaf, with the shapes that it has there.

    Args:
      path: of the leaf, in its collection.
      shape: of the leaf.

    Returns:
      Shapes by name, best first. A filter may be repeated for all positions.

    Example:
      >>> torch_names(["layer1_0", "conv1", "local_kernel"], (9, 8, 3, 3, 16, 32))
      {'layer1.0.conv1.weights': (16, 32, 9, 8, 3, 3), 'layer1.0.conv1.weight': (32, 16, 3, 3)}
    """
    *modules, leaf = path
    layer = ".".join(re.sub(r"_(\d+)$", r".\1", module) for module in modules)
    options = {f"{layer}.{_LEAVES[leaf]}": shape}
    if leaf == LOCAL_KERNEL:
        options[f"{layer}.{_LEAVES[KERNEL]}"] = shape[2:]
    return {name: _permuted(ours) for name, ours in options.items()}


def from_torch_axes(array: np.ndarray) -> np.ndarray:
    """Turns an array of PyTorch into the order of axes here.

    Args:
      array: (f,), (f, c), (f, c / groups, i, j) or (c / groups, f, h, w, i, j).

    Returns:
      A view.

    Example:
      >>> from_torch_axes(np.ones((8, 3, 5, 7))).shape
      (5, 7, 3, 8)
    """
    return array.transpose(_AXES[array.ndim])


def to_torch_axes(array: np.ndarray) -> np.ndarray:
    """Turns an array into PyTorch's order of axes.

    Args:
      array: (f,), (c, f), (i, j, c / groups, f) or (h, w, i, j, c / groups, f).

    Returns:
      A view.

    Example:
      >>> to_torch_axes(np.ones((5, 7, 3, 8))).shape
      (8, 3, 5, 7)
    """
    return array.transpose(np.argsort(_AXES[array.ndim]))


def _permuted(shape: Shape) -> Shape:
    return tuple(shape[axis] for axis in np.argsort(_AXES[len(shape)]))
