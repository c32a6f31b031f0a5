"""Which device of a mesh holds which weights of a layer: a function of kernel shape and mesh.

A mesh has three axes. Batches are split over all of them. The weights of a layer are split by
position: rows over ``h``, columns over ``w``. Where a number of positions cannot be divided, the
features are split in its place. Over ``data``, and where nothing divides, weights are copied.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, PartitionSpec

DATA, SPACE = "data", ("h", "w")
AXES = (DATA, *SPACE)


class Layout(NamedTuple):
    """How the weights of one layer are split over a mesh; hashable.

    Attributes:
      sizes: of the mesh's axes, in the order of ``AXES``.
      positions: per position axis, the mesh axes that split it.
      features: mesh axes that split the features.
      copies: mesh axes over which weights are copied, and their gradients added up.
    """

    sizes: tuple[int, int, int]
    positions: tuple[tuple[str, ...], ...]
    features: tuple[str, ...]
    copies: tuple[str, ...]

    @property
    def by_position(self) -> tuple[str, ...]:
        """Mesh axes that split any position axis, in the order of the position axes."""
        return sum(self.positions, ())

    def size(self, names: Sequence[str]) -> int:
        """Number of devices along some axes of the mesh."""
        sizes = dict(zip(AXES, self.sizes, strict=True))
        return math.prod(sizes[name] for name in names)

    def parts(self, axis: int) -> int:
        """Number of parts that a position axis is split into."""
        return self.size(self.positions[axis])

    def kernel_spec(self, *, pooled: bool = False, packed: bool = False) -> PartitionSpec:
        """How an array of the layer's weights is split.

        Args:
          pooled: its position axes are those of pools, which every device has.
          packed: its shape is (h, w, f, i * j * c / groups), not (h, w, i, j, c / groups, f).

        Returns:
          One entry per axis.
        """
        ndim = len(self.positions)
        first = [None if pooled else names or None for names in self.positions]
        features = self.features or None
        last = (features, None) if packed else (*[None] * ndim, None, features)
        return PartitionSpec(*first, *last)


def layout_of(kernel_shape: Sequence[int], sizes: Mapping[str, int]) -> Layout:
    """Splits the weights of a layer over a mesh.

    Args:
      kernel_shape: (h, w, i, j, c / groups, f), or likewise in 1-D and 3-D.
      sizes: of the mesh's axes, by name.

    Returns:
      The layout.

    Example:
      >>> layout_of((28, 7, 3, 3, 64, 128), {"data": 2, "h": 4, "w": 2})
      Layout(sizes=(2, 4, 2), positions=(('h',), ()), features=('w',), copies=('data',))
      >>> layout_of((64, 1, 16, 16), {"data": 1, "h": 4, "w": 2}).positions
      (('h', 'w'),)
    """
    ndim = len(kernel_shape) // 2 - 1
    return split_over(kernel_shape[:ndim], kernel_shape[-1], sizes)


def split_over(positions: Sequence[int], features: int, sizes: Mapping[str, int]) -> Layout:
    """As :func:`layout_of`, of what it depends on.

    Args:
      positions: (h, w), or likewise.
      features: f.
      sizes: of the mesh's axes, by name.

    Returns:
      The layout.

    Example:
      >>> split_over((7, 7), 5, {"data": 1, "h": 7, "w": 2}).copies
      ('w',)
    """
    ndim = len(positions)
    left = list(positions)
    split_positions: list[tuple[str, ...]] = [()] * ndim
    split_features: tuple[str, ...] = ()
    copies: tuple[str, ...] = (DATA,) if sizes[DATA] > 1 else ()
    for number, name in enumerate(SPACE):
        size, axis = sizes[name], min(number, ndim - 1)  # 1-D layers have one axis for both
        if size == 1:
            continue
        if left[axis] % size == 0:
            left[axis] //= size
            split_positions[axis] += (name,)
        elif features % size == 0:
            features //= size
            split_features += (name,)
        else:
            copies += (name,)
    data, h, w = (sizes[name] for name in AXES)
    return Layout((data, h, w), tuple(split_positions), split_features, copies)


def mesh_sizes(mesh: Any) -> dict[str, int]:
    """The sizes of a mesh's axes, by name."""
    return dict(zip(mesh.axis_names, mesh.axis_sizes, strict=True))


def is_ours(mesh: Any) -> bool:
    """Whether a mesh has the axes of this module, is XLA's to split, and has several devices."""
    ours = not mesh.empty and tuple(mesh.axis_names) == AXES and mesh.size > 1
    return ours and all(kind == AxisType.Auto for kind in mesh.axis_types)


def current_mesh() -> Any:
    """The mesh in context, if layers are to be split over it.

    Returns:
      The abstract mesh that :func:`jax.set_mesh` has set, or None: there is none, it is another's,
      has one device, or the program is one device's part already (``shard_map``).

    Example:
      >>> current_mesh() is None
      True
    """
    mesh = jax.sharding.get_abstract_mesh()
    return mesh if is_ours(mesh) else None
