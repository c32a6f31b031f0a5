"""Layers on a mesh: images come split over devices, and are worked on where the weights are.

As in a mixture of experts, whose experts are the positions: an ``all_to_all`` turns "some images,
all positions" into "all images, some positions" and back. The three maps of a layer run in
between, on each device as if it were alone, so that any kernel can compute them. No weight and no
gradient of one position's filters ever crosses the mesh axes that split positions.

Along an axis whose positions do not divide, features are split: each device sees all images as a
whole, and gives back its features of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from jaxws.core.implementations import dispatch
from jaxws.core.implementations.blocks import expanded
from jaxws.core.implementations.spec import Spec, kernel_shape
from jaxws.core.islands.layout import AXES, Layout, current_mesh, layout_of, mesh_sizes
from jaxws.core.islands.slabs import add_images, cut_images, cut_outputs, join_outputs, local_spec
from jaxws.core.islands.where import keeps_images
from jaxws.core.local_kernels import accumulation_dtype


def run(map_name: str, a: jax.Array, b: jax.Array, spec: Spec, name: str | None) -> jax.Array:
    """Computes one of the three maps of a layer, over the mesh in context if there is one.

    Args:
      map_name: as in :func:`jaxws.core.implementations.dispatch.run`, as all others.
      a: its first array.
      b: its second array.
      spec: geometry and dtypes.
      name: of an implementation, or None.

    Returns:
      The map's result.
    """
    mesh = current_mesh()
    if mesh is None or a.shape[-1] % mesh.size:  # as in init, whose batch is one image
        return dispatch.run(map_name, a, b, spec, name)
    if spec.block is not None:
        each = expanded(lambda a, b, spec: run(map_name, a, b, spec, name), map_name)
        return each(a, b, spec)
    if map_name == "kernel_gradient" and spec.filters is not None:
        gradient = run(map_name, a, b, spec._replace(filters=None), name)
        return dispatch.fold(gradient, spec.filters)
    ndim = len(spec.window.kernel_size)
    images = PartitionSpec(*[None] * (a.ndim - 1), AXES)
    if map_name == "kernel_gradient":
        island = _Island(spec, _layout(kernel_shape(a, b, spec), mesh, spec), name, pooled=False)
        return _on_devices(island.kernel_gradient, (images, images), island.weights)(a, b)
    shape = (*spec.window.output_size, *b.shape[ndim:])
    layout = _layout(shape, mesh, spec)
    pooled = b.shape[:ndim] != spec.window.output_size
    sizes = (b.shape[-2] * spec.groups, b.shape[-1], b.size)
    if pooled and keeps_images(spec.window, *sizes, layout, a.shape[-1] // mesh.size):
        alone = partial(dispatch.run, map_name, spec=spec, name=name)
        return _on_devices(alone, (images, PartitionSpec()), images)(a, b)
    island = _Island(spec, layout, name, pooled)
    return _on_devices(getattr(island, map_name), (images, island.weights), images)(a, b)


def _layout(shape: tuple[int, ...], mesh: Any, spec: Spec) -> Layout:
    layout = layout_of(shape, mesh_sizes(mesh))
    if spec.groups == 1:
        return layout
    # Some features of a layer with groups would need the channels of some groups alone.
    return layout._replace(features=(), copies=(*layout.copies, *layout.features))


_Map: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]


def _on_devices(function: _Map, inputs: Any, result: Any) -> _Map:
    # Kernels do not tell over which axes their results vary, and sums here are said by hand.
    mapped: _Map = jax.shard_map(function, in_specs=inputs, out_specs=result, check_vma=False)
    return mapped


class _Island(NamedTuple):
    """The three maps, as one device of a mesh computes its part of them.

    All take and give what the device has: whole images or outputs of its part of the batch, and its
    part of the weights.
    """

    spec: Spec
    layout: Layout
    name: str | None
    pooled: bool  # whether filters are those of all pools

    @property
    def weights(self) -> PartitionSpec:
        return self.layout.kernel_spec(pooled=self.pooled)

    def forward(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        y = self._run("forward", self._gather_images(x), self._filters(kernel))
        return self._return_outputs(y)

    def input_gradient(self, dy: jax.Array, kernel: jax.Array) -> jax.Array:
        dx = self._run("input_gradient", self._gather_outputs(dy), self._filters(kernel))
        return self._return_images(dx)

    def kernel_gradient(self, x: jax.Array, dy: jax.Array) -> jax.Array:
        x, dy = self._gather_images(x), self._gather_outputs(dy)
        gradient = self._run("kernel_gradient", x, dy)
        copies = self.layout.copies
        return lax.psum(gradient, copies) if copies else gradient

    def _filters(self, kernel: jax.Array) -> jax.Array:
        """Of all pools, or of this device's positions, those that repeat from its first one on."""
        for axis, names in enumerate(self.layout.positions if self.pooled else ()):
            if not names:
                continue
            here = self.spec.window.output_size[axis] // self.layout.parts(axis)
            kernel = jnp.roll(kernel, -lax.axis_index(names) * here, axis)
            kernel = lax.slice_in_dim(kernel, 0, min(here, kernel.shape[axis]), axis=axis)
        return kernel

    def _run(self, map_name: str, a: jax.Array, b: jax.Array) -> jax.Array:
        return dispatch.run(map_name, a, b, local_spec(self.spec, self.layout), self.name)

    # Wherever images of several devices come together, those of features' axes are outermost.

    def _gather_images(self, x: jax.Array) -> jax.Array:
        """Images of this device to its part of the images of all that hold other weights."""
        if self.layout.by_position:
            x = self._to_parts(cut_images(x, self.spec, self.layout))
        if self.layout.features:
            x = lax.all_gather(x, self.layout.features, axis=x.ndim - 1, tiled=True)
        return x

    def _return_images(self, dx: jax.Array) -> jax.Array:
        """The transpose: adds up what all of them have found for this device's images."""
        if self.layout.features:
            dx = self._sum_of_features(dx)
        if self.layout.by_position:
            dx = add_images(self._to_images(dx), self.spec, self.layout)
        return dx

    def _gather_outputs(self, dy: jax.Array) -> jax.Array:
        """All outputs of this device's images to its own outputs of the images of all."""
        if self.layout.by_position:
            dy = self._to_parts(cut_outputs(dy, self.layout))
        if self.layout.features:
            f, n = dy.ndim - 2, dy.ndim - 1
            dy = lax.all_to_all(dy, self.layout.features, f, n, tiled=True)
        return dy

    def _return_outputs(self, y: jax.Array) -> jax.Array:
        """The inverse, and the transpose."""
        if self.layout.features:
            f, n = y.ndim - 2, y.ndim - 1
            y = lax.all_to_all(y, self.layout.features, n, f, tiled=True)
        if self.layout.by_position:
            y = join_outputs(self._to_images(y), self.layout)
        return y

    def _sum_of_features(self, dx: jax.Array) -> jax.Array:
        """For this device's part of the images, what devices of all features have found.

        A ``psum_scatter``, of which compilers for TPUs make sums for all that send twice as much.
        """
        count = self.layout.size(self.layout.features)
        given = jnp.moveaxis(dx.reshape(*dx.shape[:-1], count, -1), -2, 0)
        found = lax.all_to_all(given, self.layout.features, 0, 0, tiled=True)
        total: jax.Array = found.sum(0, dtype=accumulation_dtype(dx.dtype))
        return total.astype(dx.dtype)

    def _to_parts(self, parts: jax.Array) -> jax.Array:
        """(parts, ..., n) of this device's images to (..., parts * n), its part of everyone's."""
        parts = lax.all_to_all(parts, self.layout.by_position, 0, 0, tiled=True)
        parts = jnp.moveaxis(parts, 0, -2)
        return parts.reshape(*parts.shape[:-2], -1)

    def _to_images(self, part: jax.Array) -> jax.Array:
        """The inverse."""
        count = self.layout.size(self.layout.by_position)
        part = part.reshape(*part.shape[:-1], count, -1)
        part, names = jnp.moveaxis(part, -2, 0), self.layout.by_position
        images: jax.Array = lax.all_to_all(part, names, 0, 0, tiled=True)
        return images
