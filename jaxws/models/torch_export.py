"""Variables of a ResNet here become a state dict with torchvision's names: the way back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from jaxws.core.conversion import KERNEL
from jaxws.core.local_kernels import LOCAL_KERNEL, to_arrays
from jaxws.models.torch_weights.names import COUNTER, HEAD, to_torch_axes, torch_names

_RESNET = re.compile(
    r"params/((layer\d+_\d+/)?conv[12]|layer\d+_\d+/downsample_0|fc)/(local_)?kernel"
    r"|(params|batch_stats)/((layer\d+_\d+/)?bn[12]|layer\d+_\d+/downsample_1)/(scale|bias|mean|var)"
    r"|params/fc/bias"
)


def to_torch_state_dict(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Turns variables of a ResNet of this library into the state dict of a PyTorch one.

    The inverse of :func:`jaxws.models.from_torch_state_dict`, which reads the result back to the
    same bits. A network of convolutions gets the names and shapes of torchvision's, whose
    ``load_state_dict`` takes them (as tensors: ``{n: torch.from_numpy(a) for n, a in ...}``). LC
    layers are ``weights`` of shape (c / groups, f, h, w, i, j), for which PyTorch has no layer;
    :func:`jaxws.to_conv` averages them to convolutions first.

    Args:
      variables: ``{"params": ..., "batch_stats": ...}``, nested mappings of arrays.

    Returns:
      Float32 NumPy arrays by name, copies. ``num_batches_tracked``, which PyTorch's BatchNorm
      wants, is 0.

    Raises:
      ValueError: variables that are not those of a ResNet of this library.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import linen as nn
      >>> from jaxws.models import ResNet
      >>> model = ResNet((), width=8, num_classes=10, conv=nn.Conv)
      >>> variables = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 4, 4, 3)))
      >>> variables = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), variables)
      >>> state_dict = to_torch_state_dict(variables)
      >>> state_dict["conv1.weight"].shape, state_dict["fc.weight"].shape
      ((8, 3, 3, 3), (10, 8))
    """
    collections = {"params", "batch_stats"}
    if not isinstance(variables, Mapping) or not {"params"} <= set(variables) <= collections:
        given = list(variables) if isinstance(variables, Mapping) else type(variables).__name__
        raise ValueError(
            f"variables are {given}: expected params and batch_stats, as model.init returns them."
        )
    leaves = flatten_dict(jax.tree.map(_copy, to_arrays(dict(variables))), sep="/")
    if foreign := [name for name in leaves if not _RESNET.fullmatch(name)]:
        raise ValueError(
            f"variables have {foreign[0]}, which no ResNet of PyTorch has: networks of"
            " resnet_cifar and resnet18 alone have names there."
        )
    if absent := {"params/fc/kernel", "batch_stats/bn1/mean"} - set(leaves):
        raise ValueError(f"variables lack {sorted(absent)[0]}: expected those of a whole ResNet.")
    state = {}
    for path, leaf in leaves.items():
        *modules, name = path.split("/")[1:]
        if leaf.ndim != {LOCAL_KERNEL: 6, KERNEL: 2 if modules == [HEAD] else 4}.get(name, 1):
            raise ValueError(
                f"variables have {path} of shape {leaf.shape}: another number of axes"
                " was expected. Replicated copies with a leading device axis: pass one of them."
            )
        name = next(iter(torch_names([*modules, name], leaf.shape)))
        state[name] = np.ascontiguousarray(to_torch_axes(leaf))
        if path.endswith("/mean"):
            state[f"{name.rpartition('.')[0]}.{COUNTER}"] = np.zeros((), np.int64)
    return state


def _copy(leaf: Any) -> np.ndarray:
    return np.array(leaf, np.float32)
