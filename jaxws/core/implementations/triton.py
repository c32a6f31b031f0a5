"""``"triton"``: kernels for NVIDIA GPUs that cut the patches while they multiply them.

The kernels of :mod:`jaxws.core.implementations.triton_kernels` read the image and the weights where
they lie and write the result, and nothing else: no patches, forward or backward. They are written
in Pallas for its Triton backend, which compiles for Ampere (compute capability 8.0) and every later
generation; Pallas's newer backend, Mosaic GPU, starts at Hopper (9.0). On every platform but CUDA
the same kernels are interpreted: the same values, slowly, for tests.

float32 is multiplied as XLA multiplies it on these GPUs: in TF32, which keeps 10 bits of mantissa,
unless ``precision`` is ``HIGHEST``. Sums are kept in float32, of float64 in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from jaxws.core.implementations import triton_kernels as kernels
from jaxws.core.implementations.manual_axes import shape_like
from jaxws.core.implementations.spec import Implementation, Spec
from jaxws.core.implementations.triton_geometry import Layer
from jaxws.core.implementations.triton_tiles import SMALLEST, STAGES, Tile, make_tile
from jaxws.core.shapes import Filters, Images, Outputs, PoolFilters

DTYPES = ("float32", "bfloat16", "float16", "float64")
# Rows of x, y and the kernel are counted in int32.
MOST_ROWS = 2**31 - 1


def supports(
    spec: Spec, kernel_shape: Sequence[int], batch: int, dtype: jax.typing.DTypeLike
) -> bool:
    """Whether the kernels compute this layer: of any geometry, unless it is astronomic.

    Args:
      spec: the geometry and dtypes of the layer.
      kernel_shape: (h, w, i, j, c / groups, f).
      batch: number of images n.
      dtype: of x and the kernel.

    Returns:
      True if they do.

    Example:
      >>> from jaxws.core.window import make_window
      >>> window = make_window((8, 8), (3, 3))
      >>> spec = Spec(window, 1, jnp.dtype("float32"), jnp.dtype("bfloat16"))
      >>> supports(spec, (8, 8, 3, 3, 4, 4), 2, jnp.bfloat16)
      True
      >>> supports(spec, (8, 8, 3, 3, 4, 4), 2, jnp.float8_e4m3fn)
      False
    """
    return _unsupported_reason(spec, kernel_shape, batch, dtype) is None


def forward(x: Images, kernel: PoolFilters, spec: Spec) -> Outputs:
    """y (h, w, f, n) of x (H, W, c, n) and the kernel (h, w, i, j, c / groups, f)."""
    layer = _layer(spec, kernel.shape, x.shape[-1], x.dtype, kernel.dtype)
    tile = make_tile(layer.features, layer.batch, _stretch(layer), layer.dtype.itemsize)
    grid = (
        pl.cdiv(layer.batch, tile.columns),
        spec.groups * pl.cdiv(layer.features, tile.rows),
        math.prod(spec.window.output_size),
    )
    shape = (*spec.window.output_size, kernel.shape[-1], layer.batch)
    return _call(kernels.forward_kernel, layer, tile, grid, (x, kernel), shape, spec.result)


def input_gradient(dy: Outputs, kernel: PoolFilters, spec: Spec) -> Images:
    """dx (H, W, c, n) of dy (h, w, f, n): the transpose of ``forward`` in x."""
    layer = _layer(spec, kernel.shape, dy.shape[-1], kernel.dtype, dy.dtype)
    tile = make_tile(layer.channels, layer.batch, layer.features, layer.dtype.itemsize)
    grid = (
        pl.cdiv(layer.batch, tile.columns),
        spec.groups * pl.cdiv(layer.channels, tile.rows),
        math.prod(spec.window.input_size),
    )
    shape = (*spec.window.input_size, spec.groups * layer.channels, layer.batch)
    return _call(
        kernels.input_gradient_kernel, layer, tile, grid, (dy, kernel), shape, kernel.dtype
    )


def kernel_gradient(x: Images, dy: Outputs, spec: Spec) -> Filters:
    """The gradient (h, w, i, j, c / groups, f) of the kernel: the transpose in the kernel."""
    window = spec.window
    channels, features = x.shape[-2] // spec.groups, dy.shape[-2]
    shape = (*window.output_size, *window.kernel_size, channels, features)
    layer = _layer(spec, shape, x.shape[-1], x.dtype, dy.dtype)
    tile = make_tile(layer.terms, layer.features, layer.batch, layer.dtype.itemsize)
    grid = (
        spec.groups * pl.cdiv(layer.features, tile.columns),
        pl.cdiv(layer.terms, tile.rows),
        math.prod(window.output_size),
    )
    return _call(kernels.kernel_gradient_kernel, layer, tile, grid, (x, dy), shape, x.dtype)


def _unsupported_reason(
    spec: Spec, kernel_shape: Sequence[int], batch: int, dtype: jax.typing.DTypeLike
) -> str | None:
    """What keeps the kernels from computing this layer, if anything does."""
    if jnp.dtype(dtype).name not in DTYPES:
        return f"the dtype {jnp.dtype(dtype)}: expected one of {DTYPES}"
    if isinstance(spec.precision, lax.DotAlgorithm | lax.DotAlgorithmPreset):
        return f"precision={spec.precision}: expected None or a lax.Precision"
    pixels, positions = math.prod(spec.window.input_size), math.prod(spec.window.output_size)
    rows = max(
        pixels * kernel_shape[-2] * spec.groups,
        positions * kernel_shape[-1],
        math.prod(kernel_shape[:-1]),
    )
    if max(rows, batch) > MOST_ROWS:
        return f"images of {pixels} pixels with kernels of shape {tuple(kernel_shape)}"
    return None


TRITON = Implementation(forward, input_gradient, kernel_gradient, _unsupported_reason)


def _layer(
    spec: Spec, kernel_shape: Sequence[int], batch: int, dtype: np.dtype, other: np.dtype
) -> Layer:
    """What the kernels need to know; factors of two dtypes are multiplied in that of the sums."""
    reason = _unsupported_reason(spec, kernel_shape, batch, dtype)
    if reason is not None:
        raise ValueError(
            f"implementation='triton' does not support {reason}; use implementation='slices'."
        )
    channels, features = kernel_shape[-2], kernel_shape[-1] // spec.groups
    common = jnp.dtype(dtype) if dtype == other else spec.accumulate
    filters = tuple(kernel_shape[: len(spec.window.kernel_size)])
    return Layer(spec, channels, features, batch, common, filters)


def _stretch(layer: Layer) -> int:
    """What blocks of terms must divide: channels, so that a block is of one offset, if they can."""
    return layer.terms if layer.channels % SMALLEST else layer.channels


def _call(
    kernel: Callable[..., None],
    layer: Layer,
    tile: Tile,
    grid: tuple[int, ...],
    arrays: tuple[jax.Array, jax.Array],
    shape: tuple[int, ...],
    dtype: np.dtype,
) -> jax.Array:
    """Runs a kernel on matrices: all axes of an array but the last are its rows."""
    if 0 in (math.prod(shape), *(array.size for array in arrays)):
        return jnp.zeros(shape, dtype)
    matrices = [a.reshape(-1, a.shape[-1]) for a in arrays]
    matrix = shape_like(arrays[0], (math.prod(shape[:-1]), shape[-1]), dtype)

    def run(*matrices: jax.Array, interpret: bool) -> jax.Array:
        result: jax.Array = pl.pallas_call(
            partial(kernel, layer=layer, tile=tile),
            out_shape=matrix,
            grid=grid,
            interpret=interpret,
            compiler_params=plgpu.CompilerParams(num_warps=tile.warps, num_stages=STAGES),
            name=kernel.__name__,
        )(*matrices)
        return result

    y: jax.Array = lax.platform_dependent(
        *matrices, cuda=partial(run, interpret=False), default=partial(run, interpret=True)
    )
    return y.reshape(shape)
