"""How a training state lies on a device between steps, and how in a checkpoint.

On a TPU, locally connected weights and their moments stay packed (:mod:`jaxws.packing`): as they
are, the tiles of its memory would be mostly padding. Checkpoints hold every state as it is, so that
all platforms can read them; the two are turned into each other on the host, because the state of a
large network may not fit on the TPU in both layouts.
"""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import SingleDeviceSharding

from jaxws.packing import pack_kernels, unpack_kernels


def packs() -> bool:
    """Whether this platform's states are packed.

    Example:
      >>> packs() == (jax.default_backend() == "tpu")
      True
    """
    return jax.default_backend() == "tpu"


def as_resident(state: Any) -> Any:
    """The layout of a state between steps; pure, for use inside a jit.

    Args:
      state: a train state, or any pytree.

    Returns:
      The state, packed where :func:`packs` says so.

    Example:
      >>> import jax.numpy as jnp
      >>> as_resident({"bias": jnp.ones(1)})
      {'bias': Array([1.], dtype=float32)}
    """
    return pack_kernels(state) if packs() else state


def to_checkpoint(state: Any) -> Any:
    """Turns a state on the device into what a checkpoint holds.

    Args:
      state: as :func:`as_resident` makes it.

    Returns:
      The same state, unpacked; in the host's memory if it was packed.

    Example:
      >>> import jax.numpy as jnp
      >>> to_checkpoint(as_resident({"local_kernel": jnp.ones((2, 1, 1, 1))}))
      {'local_kernel': Array([[[[1.]]],
             [[[1.]]]], dtype=float32)}
    """
    if not packs():
        return state
    return jax.jit(unpack_kernels)(jax.device_put(state, _host()))


def from_checkpoint(state: Any) -> Any:
    """The inverse of :func:`to_checkpoint`.

    Args:
      state: restored to the devices that :func:`checkpoint_shapes` names.

    Returns:
      The state on the device, ready for a step.

    Example:
      >>> import jax.numpy as jnp
      >>> from_checkpoint({"step": jnp.asarray(3)})
      {'step': Array(3, dtype=int32, weak_type=True)}
    """
    if not packs():
        return state
    return jax.device_put(jax.jit(pack_kernels)(state), jax.devices()[0])


def checkpoint_shapes(shapes: Any) -> Any:
    """Says where a checkpoint is to be restored to.

    Args:
      shapes: of an unpacked state, as :func:`jax.eval_shape` gives them.

    Returns:
      The shapes; with the host as their device where states are packed.

    Example:
      >>> checkpoint_shapes(jax.ShapeDtypeStruct((3,), "float32"))
      ShapeDtypeStruct(shape=(3,), dtype=float32)
    """
    if not packs():
        return shapes
    return jax.tree.map(lambda s: s.update(sharding=SingleDeviceSharding(_host())), shapes)


def _host() -> jax.Device:
    return jax.local_devices(backend="cpu")[0]
