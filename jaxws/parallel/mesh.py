"""Meshes: how many devices a run uses, and along which of the three axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from jaxws.core.islands.layout import AXES, DATA


def make_mesh(
    data: int = 1, h: int = 1, w: int = 1, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """Arranges devices in a mesh.

    Args:
      data: number of devices along the axis over which weights are copied.
      h: along the axis that splits rows of positions.
      w: along the axis that splits columns of positions.
      devices: to use, as many or more; by default, all of all processes.

    Returns:
      A mesh to be set by :func:`jax.set_mesh`, with the axes ``data``, ``h`` and ``w``.

    Raises:
      ValueError: there are fewer devices.

    Example:
      >>> make_mesh().shape
      OrderedDict({'data': 1, 'h': 1, 'w': 1})
    """
    there = list(jax.devices() if devices is None else devices)
    shape, count = (data, h, w), data * h * w
    if count > len(there):
        raise ValueError(
            f"a mesh of {data} x {h} x {w} (data, h, w) needs {count} devices, and there are"
            f" {len(there)}: make it smaller."
        )
    if there[0].platform == "tpu" and count == len(there):  # so that neighbours have links
        arranged = mesh_utils.create_device_mesh(shape, there, allow_split_physical_axes=True)
    else:
        arranged = np.array(there[:count]).reshape(shape)
    return Mesh(arranged, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def complete_sizes(given: Mapping[str, int | None], devices: int) -> dict[str, int] | None:
    """Sizes of a mesh of which some are given.

    Args:
      given: of the axes, by name; None where not given.
      devices: number of devices.

    Returns:
      All sizes: ``h`` and ``w`` are 1 where not given, and ``data`` is what is left. None if none
      is given.

    Raises:
      ValueError: they are more devices than there are, or ``data`` cannot be what is left.

    Example:
      >>> complete_sizes({"data": None, "h": 2, "w": None}, devices=8)
      {'data': 4, 'h': 2, 'w': 1}
    """
    if all(given[name] is None for name in AXES):
        return None
    said = ", ".join(f"config.mesh.{name}={given[name]}" for name in AXES if given[name])
    sizes = {name: given[name] or 1 for name in AXES}
    space = sizes["h"] * sizes["w"]
    if given[DATA] is None:
        if devices % space:
            raise ValueError(
                f"{said}: the number of devices, {devices}, cannot be divided by {space}: give h"
                " and w whose product divides it, or data too, to use fewer devices."
            )
        sizes[DATA] = devices // space
    if (count := math.prod(sizes.values())) > devices:
        raise ValueError(
            f"{said}: a mesh of {count} devices, and there are {devices}: give smaller numbers, or"
            " none, and all devices are used."
        )
    return sizes
