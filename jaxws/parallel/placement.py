"""What lies where on a mesh: weights, moments, batches, and all the rest."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxws.core.islands.layout import AXES, current_mesh, layout_of, mesh_sizes
from jaxws.core.local_kernels import map_local_kernels
from jaxws.core.packed import PackedKernel
from jaxws.core.pooled import PooledKernel

PyTree = Any
Tree = TypeVar("Tree")


def state_specs(tree: PyTree, mesh: Any) -> PyTree:
    """How the arrays of a state, or of any part of it, are split over a mesh.

    Locally connected filters and their moments are split by
    :func:`jaxws.core.islands.layout.layout_of`; every device has a copy of all the rest, and of
    filters with a mask.

    Args:
      tree: arrays or their shapes, packed and pooled or not.
      mesh: concrete or abstract.

    Returns:
      A pytree of the same structure with a PartitionSpec for each array.

    Example:
      >>> from jaxws.parallel.mesh import make_mesh
      >>> params = {"local_kernel": np.ones((8, 8, 3, 3, 4, 4)), "bias": np.ones(4)}
      >>> specs = state_specs(params, jax.sharding.AbstractMesh((1, 4, 2), AXES))
      >>> specs["local_kernel"][:2], specs["bias"] == PartitionSpec()
      (('h', 'w'), True)
    """
    sizes = mesh_sizes(mesh)

    def of_kernel(_: str, kernel: Any) -> Any:
        layout = layout_of(kernel.shape, sizes)

        def spec(node: Any, pooled: bool) -> Any:
            packed = isinstance(node, PackedKernel)
            split = layout.kernel_spec(pooled=pooled, packed=packed)
            return jax.tree.map(lambda _: split, node)

        if not isinstance(kernel, PooledKernel):
            return spec(kernel, pooled=False)
        probe = None if kernel.probe is None else spec(kernel.probe, pooled=False)
        return PooledKernel(spec(kernel.filters, pooled=True), kernel.positions, probe)

    def everywhere(node: Any) -> Any:
        return node if isinstance(node, PartitionSpec) else PartitionSpec()

    return jax.tree.map(everywhere, map_local_kernels(of_kernel, tree))


def state_shardings(tree: PyTree, mesh: Mesh) -> PyTree:
    """:func:`state_specs` as shardings.

    Args:
      tree: arrays or their shapes.
      mesh: a mesh of :func:`jaxws.parallel.mesh.make_mesh`.

    Returns:
      A pytree of the same structure with a sharding for each array.
    """
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), state_specs(tree, mesh))


def batch_sharding(mesh: Mesh, ndim: int) -> NamedSharding:
    """How a batch is split: its rows over all axes of the mesh.

    Args:
      mesh: a mesh of :func:`jaxws.parallel.mesh.make_mesh`.
      ndim: number of axes of the array, of which the batch is the first.

    Returns:
      A sharding.
    """
    return NamedSharding(mesh, _batch_spec(ndim))


def placed(tree: Tree) -> Tree:
    """Has XLA lay out a state, or a part of it, as runs keep it; to be called inside a jit.

    Args:
      tree: of arrays, packed and pooled or not.

    Returns:
      The tree; unchanged without a mesh of several devices in context.

    Example:
      >>> placed({"bias": 1})
      {'bias': 1}
    """
    mesh = current_mesh()
    if mesh is None:
        return tree
    constrained: Tree = jax.lax.with_sharding_constraint(tree, state_specs(tree, mesh))
    return constrained


def split_batch(batch: Tree) -> Tree:
    """Has XLA split a batch over all devices; to be called inside a jit.

    Args:
      batch: arrays whose first axis is the batch.

    Returns:
      The batch; unchanged without a mesh of several devices in context, and where these do not
      divide it.
    """
    mesh = current_mesh()
    if mesh is None:
        return batch

    def split(array: jax.Array) -> jax.Array:
        if array.shape[0] % mesh.size:
            return array
        return jax.lax.with_sharding_constraint(array, _batch_spec(array.ndim))

    return jax.tree.map(split, batch)


class MeshPlacing:
    """Puts what a feed makes on the devices of a mesh: see :class:`jaxws.data.feed.Placing`.

    Example:
      >>> from jaxws.parallel.mesh import make_mesh
      >>> placing = MeshPlacing(make_mesh())
      >>> placing.rows(4).tolist()
      [0, 1, 2, 3]
      >>> placing.batch({"label": np.arange(4)}, 4)["label"].tolist()
      [0, 1, 2, 3]
    """

    def __init__(self, mesh: Mesh):
        """Notes the mesh.

        Args:
          mesh: a mesh of :func:`jaxws.parallel.mesh.make_mesh`.
        """
        self._mesh = mesh

    @property
    def parts(self) -> int:
        """Number of devices, which divides the rows of every batch."""
        return self._mesh.size

    def rows(self, n: int) -> np.ndarray:
        """The rows of a batch that this process's devices hold.

        Args:
          n: number of rows of the batch.

        Returns:
          Their numbers, ascending.
        """
        held = batch_sharding(self._mesh, 1).addressable_devices_indices_map((n,))
        return np.unique(np.concatenate([np.arange(n)[index] for index in held.values()]))

    def batch(self, tree: PyTree, n: int) -> PyTree:
        """A batch, split over all devices.

        Args:
          tree: arrays of the rows that :meth:`rows` names.
          n: number of rows of the batch.

        Returns:
          Arrays with n rows, of all processes together.
        """
        rows = self.rows(n)

        def split(local: np.ndarray) -> jax.Array:
            def part(index: Any) -> np.ndarray:
                first, last, _ = index[0].indices(n)
                return local[np.searchsorted(rows, first) : np.searchsorted(rows, last)]

            sharding = batch_sharding(self._mesh, local.ndim)
            return jax.make_array_from_callback((n, *local.shape[1:]), sharding, part)

        return jax.tree.map(split, tree)

    def everywhere(self, tree: PyTree) -> PyTree:
        """A copy on every device.

        Args:
          tree: arrays, the same in all processes; keys too.

        Returns:
          Arrays of all processes together.
        """
        sharding = NamedSharding(self._mesh, PartitionSpec())

        def copy(array: Any) -> jax.Array:
            if jax.dtypes.issubdtype(getattr(array, "dtype", None), jax.dtypes.prng_key):
                data = copy(np.asarray(jax.random.key_data(array)))
                return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
            if sharding.is_fully_addressable:
                return jax.device_put(array, sharding)
            host = np.asarray(array)
            return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

        return jax.tree.map(copy, tree)


def _batch_spec(ndim: int) -> PartitionSpec:
    return PartitionSpec(AXES, *[None] * (ndim - 1))
