"""How many bytes a device sends in a training step on a mesh: arithmetic, before anything compiles.

A mesh of n devices has four kinds of traffic, and which is largest decides what mesh is best:

- *exchange*: images and outputs of locally connected layers, from "split by images" to "split by
  positions" and back. It grows with the images of each device.
- *pools*: sums over pools, and filters that are gathered.
- *gradients* of locally connected layers, where several devices have copies of the weights. It does
  not depend on the batch.
- *plain*: gradients of all other parameters, which every device has a copy of.

Rings are assumed: of an array that g devices add up, each sends 2 (g - 1) / g; of one that they
gather or exchange, (g - 1) / g. Statistics of BatchNorm and of metrics are left out: they are some
kilobytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax

from jaxws.core.islands.layout import AXES, Layout, layout_of
from jaxws.core.islands.where import filters_sent, images_sent, keeps_images, moved, outputs_sent
from jaxws.core.local_kernels import Kernel, PyTree, map_local_kernels
from jaxws.core.window import LayerWindow, Window, make_window

_FLOAT32 = 4  # bytes of parameters and of what is added up over pools
# Over pools, in every step: what makes the mean, in two pieces (:mod:`jaxws.core.islands.sums`),
# and the variance, of which the signal-to-noise ratio is made that is recorded.
_SUMS = 3


class Layer(NamedTuple):
    """A locally connected layer: the shape of its kernel and where its filters lie.

    Attributes:
      kernel_shape: (h, w, i, j, c / groups, f), or likewise in 1-D and 3-D.
      window: its geometry.
      groups: number of feature groups.
    """

    kernel_shape: tuple[int, ...]
    window: Window
    groups: int = 1

    @property
    def channels(self) -> int:
        """Input channels c."""
        return self.kernel_shape[-2] * self.groups

    @property
    def features(self) -> int:
        """Output features f."""
        return self.kernel_shape[-1]

    @property
    def weights(self) -> int:
        """Number of weights."""
        return math.prod(self.kernel_shape)

    @property
    def pooled_weights(self) -> int:
        """Number of weights of one filter per pool."""
        ndim = len(self.window.kernel_size)
        positions, offsets = self.kernel_shape[:ndim], self.kernel_shape[ndim : 2 * ndim]
        pools = math.prod(map(min, positions, offsets))
        return pools * math.prod(self.kernel_shape[ndim:])


class Network(NamedTuple):
    """What of a network is sent or kept.

    Attributes:
      layers: its locally connected layers.
      plain: number of all other parameters.
    """

    layers: tuple[Layer, ...]
    plain: int


class Step(NamedTuple):
    """What of a training step decides how much is sent.

    Attributes:
      images: of a step, on all devices, all views of them.
      itemsize: bytes of an activation.
      pooled: whether weights are kept as one filter per pool between steps.
      accumulate: parts in which gradients are computed; each part's are added up over devices.
    """

    images: int
    itemsize: int
    pooled: bool = False
    accumulate: int = 1


class Traffic(NamedTuple):
    """Bytes that each device sends per step.

    Attributes:
      exchange: images and outputs of locally connected layers.
      pools: sums over pools, and filters.
      gradients: of locally connected layers.
      plain: gradients of other parameters.
    """

    exchange: float
    pools: float
    gradients: float
    plain: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self)


def network_of(params: PyTree, windows: Mapping[str, LayerWindow]) -> Network:
    """Reads what matters of a network.

    Args:
      params: its parameters, or their shapes.
      windows: of its locally connected layers, by path, of
        :func:`jaxws.layers.windows.layer_windows`. A layer that is missing is taken for one whose
        image has as many pixels as it has positions.

    Returns:
      Its layers, and the number of other parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"a": {"local_kernel": jnp.ones((4, 1, 2, 3))}, "b": jnp.ones(5)}
      >>> network = network_of(params, {"a": LayerWindow(make_window((4,), (1,)), 1)})
      >>> network.layers[0].weights, network.plain
      (24, 5)
    """
    layers: list[Layer] = []

    def note(path: str, kernel: Kernel) -> Kernel:
        window = windows.get(path) or LayerWindow(_same_size(kernel.shape), 1)
        layers.append(Layer(tuple(kernel.shape), *window))
        return kernel

    map_local_kernels(note, params)
    total = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    return Network(tuple(layers), total - sum(layer.weights for layer in layers))


def traffic(network: Network, sizes: Mapping[str, int], step: Step) -> Traffic:
    """Bytes that each device of a mesh sends per step.

    Args:
      network: what is trained.
      sizes: of the mesh's axes, by name.
      step: how.

    Returns:
      The bytes.

    Example:
      >>> layer = Layer((8, 8, 3, 3, 4, 4), make_window((8, 8), (3, 3), 1, 1))
      >>> network, step = Network((layer,), plain=0), Step(64, itemsize=2, pooled=True)
      >>> traffic(network, {"data": 2, "h": 1, "w": 1}, step)
      Traffic(exchange=0.0, pools=0.0, gradients=18432.0, plain=0.0)
      >>> traffic(network, {"data": 1, "h": 2, "w": 1}, step)
      Traffic(exchange=20480.0, pools=15552.0, gradients=0.0, plain=0.0)
    """
    devices = math.prod(sizes[name] for name in AXES)
    layers = [(layer, layout_of(layer.kernel_shape, sizes)) for layer in network.layers]
    copies = [_added_up(own.size(own.copies), _weights_here(layer, own)) for layer, own in layers]
    return Traffic(
        exchange=float(sum(_exchange(layer, own, step, devices) for layer, own in layers)),
        pools=float(sum(_pools(layer, own, step, devices) for layer, own in layers)),
        gradients=sum(copies) * step.itemsize * step.accumulate,
        plain=_added_up(devices, network.plain) * _FLOAT32 * step.accumulate,
    )


def state_bytes(
    network: Network, sizes: Mapping[str, int], *, moments: int, pooled: bool = False
) -> int:
    """Bytes of parameters and of the optimizer's moments on each device, without padding.

    Args:
      network: what is trained.
      sizes: of the mesh's axes, by name.
      moments: that the optimizer keeps per parameter: 2 for Adam.
      pooled: whether locally connected weights are kept as one filter per pool, which has no
        moments of its own: those are of every position.

    Returns:
      The bytes.

    Example:
      >>> layer = Layer((8, 8, 3, 3, 4, 4), make_window((8, 8), (3, 3), 1, 1))
      >>> mesh = {"data": 2, "h": 2, "w": 2}
      >>> state_bytes(Network((layer,), plain=10), mesh, moments=2) == (8 * 8 // 4 * 144 + 10) * 12
      True
    """
    total = network.plain * (1 + moments)
    for layer in network.layers:
        layout = layout_of(layer.kernel_shape, sizes)
        here = _weights_here(layer, layout)
        filters = layer.pooled_weights // layout.size(layout.features) if pooled else here
        total += filters + moments * here
    return total * _FLOAT32


def _same_size(kernel_shape: Sequence[int]) -> Window:
    ndim = len(kernel_shape) // 2 - 1
    return make_window(kernel_shape[:ndim], kernel_shape[ndim : 2 * ndim])


def _weights_here(layer: Layer, layout: Layout) -> int:
    return layer.weights // layout.size((*layout.by_position, *layout.features))


def _exchange(layer: Layer, layout: Layout, step: Step, devices: int) -> float:
    """Of images x and outputs y; or, with pooled filters, of x and dy for the kernel's gradient."""
    images = step.images / devices
    sent = images_sent(layer.window, layer.channels, layout, images)
    sent += outputs_sent(layer.window, layer.features, layout, images)
    # As often backwards, unless y and dx are computed where the images are.
    return sent * step.itemsize * (1 if _keeps_images(layer, layout, step, devices) else 2)


def _keeps_images(layer: Layer, layout: Layout, step: Step, devices: int) -> bool:
    sizes = (layer.channels, layer.features, layer.pooled_weights)
    images = step.images // (step.accumulate * devices)
    return step.pooled and keeps_images(layer.window, *sizes, layout, images)


def _pools(layer: Layer, layout: Layout, step: Step, devices: int) -> float:
    here = layer.pooled_weights / layout.size(layout.features)
    sums = _added_up(layout.size(layout.by_position), here) * _FLOAT32 * _SUMS
    if not _keeps_images(layer, layout, step, devices):
        return sums
    return sums + filters_sent(layer.pooled_weights, layout) * step.itemsize


def _added_up(devices: int, values: float) -> float:
    return 2 * moved(devices) * values
