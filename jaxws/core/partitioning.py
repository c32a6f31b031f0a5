"""Whether XLA may split an array over devices: what it may split, it must be able to split.

It splits plain operations over any mesh, but no custom kernel, and it is free to gather what an
operation's result does not need split. Both only matter where there is more than one device in a
program, and a program's trace does not always tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.sharding import AxisType

DEVICES = "devices"


def may_be_partitioned(*arrays: Any) -> bool:
    """Whether any of these arrays may be split, or replicated, over several devices by XLA.

    An array at hand is asked. Of one that is traced, the mesh of the context knows, as
    :func:`jax.set_mesh` and :func:`one_device` set it; under ``shard_map`` over all its axes every
    program is one device's. Without any mesh, it may be wherever several devices are visible.

    Args:
      *arrays: any arrays, traced or not.

    Returns:
      False only if they cannot be.

    Example:
      >>> may_be_partitioned(jax.numpy.ones(3))
      False
      >>> with one_device():
      ...     bool(jax.jit(lambda x: may_be_partitioned(x))(jax.numpy.ones(3)))
      False
    """
    known = [array for array in arrays if not isinstance(array, jax.core.Tracer)]
    if any(isinstance(a, jax.Array) and len(a.sharding.device_set) > 1 for a in known):
        return True
    if len(known) == len(arrays):
        return False
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return jax.device_count() > 1
    axes = zip(mesh.axis_types, mesh.axis_sizes, strict=True)
    devices: int = math.prod(size for kind, size in axes if kind != AxisType.Manual)
    return devices > 1


@contextmanager
def one_device() -> Iterator[None]:
    """Says that programs traced in this context run on one device, JAX's default one.

    Example:
      >>> with one_device():
      ...     jax.sharding.get_abstract_mesh().size
      1
    """
    default = list(jax.numpy.zeros(()).devices())
    with jax.set_mesh(jax.sharding.Mesh(default, (DEVICES,), axis_types=(AxisType.Auto,))):
        yield
