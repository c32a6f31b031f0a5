"""What the layers of a network make of images.

Layers keep their activations as they like: networks of LC layers as (H, W, c, n). Which axis is the
batch's is read from shapes, of two batches that differ in their size alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxws.core.named_leaves import named_leaves

_COLLECTION = "intermediates"
_CALL = "/__call__/"


class _Layers(NamedTuple):
    """The layers of a network on images of one shape.

    Attributes:
      axes: which axis of a layer's output is the batch's, by the layer's name, in the order in
        which outputs are computed.
      shapes: of an output for one image, (h, w, f) or likewise.
    """

    axes: dict[str, int]
    shapes: dict[str, tuple[int, ...]]


def layer_names(
    model: nn.Module, variables: Mapping[str, Any], image_shape: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """Lists the layers whose outputs :func:`activations` gives.

    Args:
      model: a network of Linen, called as ``model(x)`` on (n, H, W, c).
      variables: its parameters and statistics, or their shapes.
      image_shape: (H, W, c).

    Returns:
      The shape of each layer's output for one image, (h, w, f) or likewise, by the layer's path as
      in :func:`jaxws.weight_snr`, in the order in which they are computed. Blocks are layers, too:
      ``'layer1_0'`` is what it hands on, ``'layer1_0/conv2'`` what its second convolution computes.
      A module that is called again has ``'NAME[1]'``; of one that returns several arrays, each is
      listed so. Outputs without a batch axis are not listed. Nothing is computed.

    Example:
      >>> from jaxws import LocalConv
      >>> from jaxws.models import resnet_cifar
      >>> model = resnet_cifar(8, width=4, conv=LocalConv)
      >>> shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 8, 8, 3)))
      >>> list(layer_names(model, shapes, (8, 8, 3)).items())[:3]
      [('conv1', (8, 8, 4)), ('bn1', (8, 8, 4)), ('layer1_0/conv1', (8, 8, 4))]
    """
    return dict(_layers(model, variables, tuple(image_shape), jnp.float32).shapes)


def activations(
    model: nn.Module,
    variables: Mapping[str, Any],
    images: Any,
    layers: Sequence[str] | None = None,
    *,
    batch_size: int = 64,
) -> dict[str, np.ndarray]:
    """Computes the outputs of layers for images, with running statistics, as in evaluation.

    What there is on the device at a time is that of one batch; results are gathered on the host.

    Args:
      model: a network of Linen, called as ``model(x)``.
      variables: its parameters and statistics.
      images: (n, H, W, c), normalised as the network has seen them in training, see
        ``normalise`` of :func:`jaxws.models.load`.
      layers: names, see :func:`layer_names`; None for all.
      batch_size: images that are computed at once.

    Returns:
      A dict from the layer's name to (n, h, w, f), (n, f) or likewise: the batch first, whatever
      the layout in the network. float32 where the network computes in half precision.

    Raises:
      ValueError: an unknown layer, no image, images of another number of axes, a batch size below
        1.

    Example:
      >>> import jaxws
      >>> network = jaxws.models.load("small/lc-ws1")
      >>> images = np.zeros((3, 24, 24, 1), np.uint8)
      >>> found = activations(*network[:2], network.normalise(images), ["conv1", "fc"])
      >>> {name: each.shape for name, each in found.items()}
      {'conv1': (3, 24, 24, 8), 'fc': (3, 10)}
    """
    shape = np.shape(images)
    if len(shape) != 4 or not shape[0]:
        raise ValueError(f"images have shape {shape}: expected (n, H, W, c) with n of 1 or more.")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: expected 1 or more.")
    count, size = shape[0], min(batch_size, shape[0])
    batches = (images[start : start + size] for start in range(0, count, size))
    found = list(iter_activations(model, variables, batches, layers))
    return {name: np.concatenate([each[name] for each in found]) for name in found[0]}


def iter_activations(
    model: nn.Module,
    variables: Mapping[str, Any],
    batches: Iterable[Any],
    layers: Sequence[str] | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """As :func:`activations`, batch by batch, for those who need not keep all of them.

    Args:
      model: as there.
      variables: as there.
      batches: of images (n, H, W, c). Smaller ones are filled up to the size of the first, so that
        one program computes all.
      layers: as there.

    Yields:
      The dict of a batch.

    Raises:
      ValueError: as there.
    """
    known: _Layers | None = None
    size = 0
    for batch in batches:
        x = jnp.asarray(batch)
        if known is None:
            known, size = _layers(model, variables, x.shape[1:], x.dtype), len(x)
            axes = {name: known.axes[name] for name in _checked(layers, known)}
        missing = max(size - len(x), 0)
        filled = jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1)) if missing else x
        outputs = _compute(variables, filled, model, tuple(axes.items()))
        yield {
            name: np.asarray(outputs[name], _on_host(outputs[name].dtype))[: len(x)]
            for name in axes
        }


def _on_host(dtype: Any) -> Any:
    is_half = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return np.float32 if is_half else dtype


def _checked(layers: Sequence[str] | None, known: _Layers) -> Sequence[str]:
    if layers is None:
        return list(known.axes)
    if isinstance(layers, str):
        raise ValueError(f"layers={layers!r}: expected a list of names.")
    if unknown := [name for name in layers if name not in known.axes]:
        raise ValueError(
            f"the network has no layer {unknown[0]!r}; there are {', '.join(known.axes)}."
        )
    return list(dict.fromkeys(layers))


@partial(jax.jit, static_argnums=(2, 3))
def _compute(
    variables: Any, x: jax.Array, model: nn.Module, axes: tuple[tuple[str, int], ...]
) -> dict[str, jax.Array]:
    """Outputs by name, the batch first; XLA drops what none of them needs."""
    outputs, _ = _outputs(model, variables, x)
    return {name: jnp.moveaxis(outputs[name], axis, 0) for name, axis in axes}


def _layers(
    model: nn.Module, variables: Mapping[str, Any], image_shape: tuple[int, ...], dtype: Any
) -> _Layers:
    leaves, structure = jax.tree.flatten(variables)
    of_leaves = tuple((np.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    return _find_layers(model, structure, of_leaves, image_shape, jnp.dtype(dtype))


@lru_cache(maxsize=32)
def _find_layers(
    model: nn.Module, structure: Any, of_leaves: Any, image_shape: tuple[int, ...], dtype: Any
) -> _Layers:
    """Layers and their batch axes; traces the network twice."""
    variables = structure.unflatten([jax.ShapeDtypeStruct(*leaf) for leaf in of_leaves])
    order: list[str] = []

    def shapes(count: int) -> dict[str, Any]:
        x = jax.ShapeDtypeStruct((count, *image_shape), dtype)

        def outputs(weights: Any, images: Any) -> Any:
            found, names = _outputs(model, weights, images)
            order[:] = names
            return found

        return jax.eval_shape(outputs, variables, x)

    few, more = 2, 3
    small, large = shapes(few), shapes(more)
    axes: dict[str, int] = {}
    for name in order:
        pairs = zip(small[name].shape, large[name].shape, strict=True)
        differ = [axis for axis, sizes in enumerate(pairs) if sizes[0] != sizes[1]]
        if len(differ) == 1 and small[name].shape[differ[0]] == few:
            axes[name] = differ[0]
    without = {
        name: tuple(size for axis, size in enumerate(small[name].shape) if axis != axes[name])
        for name in axes
    }
    return _Layers(axes, without)


def _outputs(
    model: nn.Module, variables: Any, x: Any
) -> tuple[dict[str, jax.Array], Sequence[str]]:
    """Outputs of all layers by name, and the names in the order in which they were computed."""
    finished: list[str] = []

    def is_layer(module: nn.Module, method: str) -> bool:
        # A layer that is a part of another one under the same name, as of LocalDense, is none.
        parent = module.parent  # of the network itself, a scope
        if method != "__call__" or (isinstance(parent, nn.Module) and parent.path == module.path):
            return False
        finished.append("/".join(module.path))
        return True

    _, kept = model.apply(variables, x, capture_intermediates=is_layer, mutable=[_COLLECTION])
    named = {_layer_name(key): leaf for key, leaf in named_leaves(kept[_COLLECTION]).items()}
    # What the network itself returns is its last layer's; of a bare layer it is all there is.
    named = {name: leaf for name, leaf in named.items() if _path(name)} or named
    first = {name: number for number, name in reversed(list(enumerate(finished)))}
    return named, sorted(named, key=lambda name: first.get(_path(name), math.inf))


def _path(name: str) -> str:
    return name.partition("[")[0]


def _layer_name(key: str) -> str:
    """The layer's path; its further outputs have their number or key in brackets."""
    path, _, which = f"/{key}".partition(_CALL)
    return path.lstrip("/") + ("" if which == "0" else f"[{which}]")
