"""Weights from PyTorch: a state dict with torchvision's names becomes variables of a ResNet here.

The model decides. Every leaf that its ``init`` would make looks up the name that PyTorch has for
it; whatever is missing, left over or misshapen is reported at once, since such problems have a
common cause (another width, depth or image) that the whole list shows and a single name does not.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxws.models.resnet import ResNet
from jaxws.models.torch_weights.files import read_weights_file
from jaxws.models.torch_weights.hints import check_kind, hints_for, message
from jaxws.models.torch_weights.names import HEAD, Shape, from_torch_axes, torch_names
from jaxws.models.torch_weights.state import is_of_head, read_state

Path_ = tuple[str, ...]


def from_torch_state_dict(
    model: ResNet,
    state_dict: Mapping[str, Any] | str | os.PathLike[str],
    *,
    image_shape: Sequence[int] | None = None,
    entry: str | None = None,
    prefix: str | None = None,
    fresh_head: jax.Array | None = None,
) -> dict[str, Any]:
    """Turns the state dict of a PyTorch ResNet into variables of a model of this library.

    Names are torchvision's, such as ``layer2.0.downsample.0.weight``, with or without a prefix in
    front of all of them (``module.``, ``_orig_mod.``, ``backbone.``, ``model.encoder.``, ...). The
    last layer may stand beside a backbone and be called ``linear``, ``classifier`` or ``head``, and
    shortcuts ``shortcut``. What tools leave beside weights is ignored: ``num_batches_tracked``,
    ``total_ops``, and all else in a checkpoint around the state dict; masks of pruning are applied.
    Layers are read as follows:

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
    published weights. :func:`jaxws.models.to_torch_state_dict` is the way back.

    Args:
      model: the network to load into, of any layers: ``resnet18(...)``, ``resnet_cifar(...)``.
      state_dict: from PyTorch's names to arrays: NumPy arrays, tensors, anything that
        ``np.asarray`` takes, of any floating dtype; or a checkpoint that has one such mapping
        somewhere; or the path of a file, see
        :func:`jaxws.models.torch_weights.files.read_weights_file`. PyTorch itself is needed for
        files of ``torch.save`` only.
      image_shape: (H, W, c) of the images that the model will see, (32, 32, 3) if None, or
        (224, 224, 3) for a model with ``imagenet_stem``. H and W matter only to LC models, which
        have a filter for each position.
      entry: where a checkpoint has several state dicts, such as ``"model"`` and ``"model_ema"``:
        the one to take, keys joined by slashes.
      prefix: where names of a state dict begin differently: takes those with this prefix alone.
      fresh_head: a random key; the last layer is drawn with it as by ``model.init``, and what the
        state dict has of one is ignored.

    Returns:
      ``{"params": ..., "batch_stats": ...}`` for ``model.apply``, all float32 copies.

    Raises:
      ValueError: names that are missing or left over, arrays of another shape, not of floating
        dtype or not finite (one message lists them all and says which arguments would fit); a
        state dict that is none, of another kind of network, or several of which none is chosen; a
        file that cannot be read; a model that is no ResNet; an ``image_shape`` that is not three
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
    if not isinstance(model, ResNet):
        raise ValueError(
            f"model is a {type(model).__name__}: weights of PyTorch can be read into"
            " jaxws.models.ResNet alone (resnet18, resnet_cifar). Vision transformers of PyTorch"
            " have a class token and biases, which those of jaxws.models.vit have not."
        )
    if isinstance(state_dict, str | os.PathLike):
        state_dict = read_weights_file(Path(state_dict))
    images = _images(model, image_shape)
    # By path, such as ("params", "layer1_0", "conv1", "kernel").
    targets = flatten_dict(jax.eval_shape(model.init, jax.random.key(0), images))
    if fresh_head is not None:
        targets = {path: target for path, target in targets.items() if path[1] != HEAD}
    options = {path: torch_names(path[1:], target.shape) for path, target in targets.items()}
    expected = {name: shape for names in options.values() for name, shape in names.items()}
    state = read_state(state_dict, expected, entry=entry, prefix=prefix)
    check_kind(state, expected)
    arrays = {n: a for n, a in state.arrays.items() if fresh_head is None or not is_of_head(n)}
    found, problems = _match(options, arrays)
    used = set(found.values())
    left = {n: array.shape for n, array in arrays.items() if n not in used}
    left |= {n: tuple(getattr(value, "shape", ())) for n, value in state.others.items()}
    problems["left over"] = [f"{name} {shape}" for name, shape in left.items()]
    if any(problems.values()):
        raise ValueError(message(problems, hints_for(model, state, expected)))
    leaves = {
        # A copy: on CPUs jnp.asarray may share memory with the array, which PyTorch goes on using.
        path: jnp.broadcast_to(
            jnp.array(from_torch_axes(arrays[name]), jnp.float32), targets[path].shape
        )
        for path, name in found.items()
    }
    head = {} if fresh_head is None else _drawn_head(model, images, fresh_head)
    return unflatten_dict(leaves | head)


def _match(
    options: Mapping[Path_, Mapping[str, Shape]], arrays: Mapping[str, np.ndarray]
) -> tuple[dict[Path_, str], dict[str, list[str]]]:
    """The name of each leaf's array, also of one that is wrong, and what is wrong."""
    found, misshapen, missing, infinite = {}, [], [], []
    for path, names in options.items():
        name = next((option for option in names if option in arrays), None)
        if name is None:
            wanted = " or ".join(f"{option} {shape}" for option, shape in names.items())
            missing.append(f"expected {wanted}")
            continue
        found[path], array = name, arrays[name]
        if array.shape != names[name] or not jnp.issubdtype(array.dtype, jnp.floating):
            misshapen.append(
                f"{name}: given {array.dtype} {array.shape}, expected float32 {names[name]}"
            )
        elif not np.isfinite(array).all():
            infinite.append(f"{name} {array.shape}")
    return found, {"misshapen": misshapen, "not finite": infinite, "missing": missing}


def _images(model: ResNet, image_shape: Sequence[int] | None) -> jax.ShapeDtypeStruct:
    if image_shape is None:
        image_shape = (224, 224, 3) if model.imagenet_stem else (32, 32, 3)
    if len(image_shape) != 3 or any(size < 1 for size in image_shape):
        raise ValueError(f"image_shape={image_shape!r}: expected three positive numbers (H, W, c).")
    return jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)


def _drawn_head(
    model: ResNet, images: jax.ShapeDtypeStruct, key: jax.Array
) -> dict[Path_, jax.Array]:
    """Leaves of the last layer, as ``model.init`` draws them; the compiler drops all others."""

    @jax.jit
    def draw(key: jax.Array) -> Any:
        return model.init(key, jnp.zeros(images.shape, images.dtype))["params"][HEAD]

    return flatten_dict({"params": {HEAD: draw(key)}})
