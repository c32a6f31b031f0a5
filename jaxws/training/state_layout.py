"""How a training state lies on a device between steps, and how in a checkpoint.

On a TPU, locally connected weights and their moments stay packed (:mod:`jaxws.core.packed`): as
they are, the tiles of its memory would be mostly padding. Where weights are shared after every
step, they stay pooled (:mod:`jaxws.core.pooled`) from the first step on. Checkpoints hold every
state as it is, so that all platforms can read them. On a single TPU, packed ones are turned into it
on the host, because the state of a large network may not fit there in both layouts; on a mesh, each
device does so with its part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from jaxws.core.islands.layout import AXES, is_ours
from jaxws.core.local_kernels import to_arrays
from jaxws.core.packed import pack_kernels
from jaxws.core.platform import target_platform
from jaxws.core.pooled import expand_pools, first_filters, holds_pooled
from jaxws.parallel.compiled import Together
from jaxws.parallel.placement import placed, state_shardings
from jaxws.training.state import TrainState
from jaxws.training.weight_sharing import Sharing, keep_frozen


def uses_packed_layout() -> bool:
    """Whether states are packed on the platform that programs are traced for.

    Example:
      >>> uses_packed_layout() == (jax.default_backend() == "tpu")
      True
    """
    return target_platform() == "tpu"


def pool_if_shared(state: TrainState, sharing: Sharing) -> TrainState:
    """Keeps weights as one filter per pool where a run shares them after every step.

    Args:
      state: between steps.
      sharing: of the run.

    Returns:
      The state with pooled kernels if every step shares and the weights are equal within their
      pools, which they are not before the first step; the state as it is otherwise.

    Example:
      >>> params = {"local_kernel": jnp.ones((8, 8, 3, 3, 16, 32))}
      >>> state = TrainState(jnp.asarray(1), params, {}, ())
      >>> pool_if_shared(state, Sharing(1, "grid", 10)).params["local_kernel"].filters.shape
      (3, 3, 3, 3, 16, 32)
    """
    if not sharing.keeps_shared or holds_pooled(state.params):
        return state
    pooled, are_shared = _pool(state.params, sharing)
    return dataclasses.replace(state, params=pooled) if are_shared else state


@Together
@partial(jax.jit, static_argnums=1)
def _pool(params: Any, sharing: Sharing) -> tuple[Any, jax.Array]:
    pooled = placed(keep_frozen(first_filters(params, pools=sharing.pools), params, sharing))
    equal = jax.tree.map(lambda a, b: jnp.all(a == b), expand_pools(pooled), params)
    return pooled, jnp.all(jnp.asarray(jax.tree.leaves(equal)))


def to_checkpoint(state: Any) -> Any:
    """Turns a state on the device into what a checkpoint holds.

    Args:
      state: packed where :func:`uses_packed_layout` says so, pooled or not.

    Returns:
      The same state, neither packed nor pooled; in the host's memory if it was packed.

    Example:
      >>> to_checkpoint(from_checkpoint({"local_kernel": jnp.ones((2, 1, 1, 1))}))
      {'local_kernel': Array([[[[1.]]],
             [[[1.]]]], dtype=float32)}
    """
    if uses_packed_layout() and _mesh() is None:
        state = jax.device_put(state, _host())
    return _to_arrays(state) if uses_packed_layout() or holds_pooled(state) else state


def from_checkpoint(state: Any) -> Any:
    """The inverse of :func:`to_checkpoint`.

    Args:
      state: restored to the devices that :func:`checkpoint_shapes` names.

    Returns:
      The state on the device, ready for a step.

    Example:
      >>> from_checkpoint({"step": jnp.asarray(3)})
      {'step': Array(3, dtype=int32, weak_type=True)}
    """
    if not uses_packed_layout():
        return state
    packed = _packed(state)
    return packed if _mesh() is not None else jax.device_put(packed, jax.devices()[0])


def replace_weights(
    state: TrainState, params: Mapping[str, Any], batch_stats: Mapping[str, Any]
) -> TrainState:
    """Puts given weights in the place of drawn ones.

    Args:
      state: before the first step, packed where :func:`uses_packed_layout` says so.
      params: arrays by name; parameters that are not among them stay.
      batch_stats: likewise.

    Returns:
      The state, in the same layout.

    Example:
      >>> import numpy as np
      >>> state = TrainState(jnp.asarray(0), {"a": jnp.zeros(1), "b": jnp.zeros(1)}, {}, ())
      >>> replace_weights(state, {"b": np.ones(1, np.float32)}, {}).params
      {'a': Array([0.], dtype=float32), 'b': Array([1.], dtype=float32)}
    """

    def put(tree: Any, given: Mapping[str, Any]) -> Any:
        def leaf(path: Any, drawn: Any) -> Any:
            array = given.get(jax.tree_util.keystr(path, simple=True, separator="/"))
            # A copy: steps write over the state.
            if array is None:
                return drawn
            return jax.device_put(array, drawn.sharding, may_alias=False)

        return jax.tree_util.tree_map_with_path(leaf, tree)

    drawn = to_checkpoint((state.params, state.batch_stats))
    placed = from_checkpoint(tuple(map(put, drawn, (params, batch_stats))))
    return dataclasses.replace(state, params=placed[0], batch_stats=placed[1])


def checkpoint_shapes(shapes: Any) -> Any:
    """Says where a checkpoint is to be restored to.

    Args:
      shapes: of an unpacked state, as :func:`jax.eval_shape` gives them.

    Returns:
      The shapes, with shardings: those of the mesh in context, so that programs find what they
      were compiled for; on one device, the host where states are packed.

    Example:
      >>> checkpoint_shapes(jax.ShapeDtypeStruct((3,), "float32"))
      ShapeDtypeStruct(shape=(3,), dtype=float32)
    """
    mesh = jax.sharding.get_mesh()
    if uses_packed_layout() and _mesh() is None:
        return jax.tree.map(lambda s: s.update(sharding=SingleDeviceSharding(_host())), shapes)
    if mesh.axis_names != AXES:
        return shapes
    split = state_shardings(shapes, mesh)
    return jax.tree.map(lambda shape, at: shape.update(sharding=at), shapes, split)


@Together
@jax.jit
def _to_arrays(state: Any) -> Any:
    return placed(to_arrays(state))


@Together
@jax.jit
def _packed(state: Any) -> Any:
    return placed(pack_kernels(state))


def _mesh() -> jax.sharding.Mesh | None:
    """That in context, if it has several devices."""
    mesh = jax.sharding.get_mesh()
    return mesh if is_ours(mesh) else None


def _host() -> jax.Device:
    return jax.local_devices(backend="cpu")[0]
