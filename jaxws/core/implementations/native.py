"""``"native"``: C++ kernels for CPUs, as XLA custom calls; see jaxws/core/native/local_conv.cc.

A block of positions sees a few rows and columns of the image. A task copies them into a core's
cache, 16 images of the batch wide, and multiplies from there: with the copy's rows as b and a
position's filters as a, a register tile of 6 features and 16 images is::

    y[h, w, f, n] += a[(i j c), f] * b[(i j c), n]

No patches are written anywhere, and the image is read about twice. The input's gradient is the same
product from positions to pixels, and the kernel's gradient one over the batch, for which the copy
of dy is transposed while it is made.

The kernels compute in float32, and in bfloat16 on processors that multiply it (AVX512-BF16), with
float32 sums. Other half precision is widened, which loses nothing: products of such numbers are
added up in float32 anyway. float64 is left to the other implementations.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxws.core.implementations.manual_axes import vary_alike
from jaxws.core.implementations.spec import MAPS, Implementation, Spec, kernel_shape
from jaxws.core.local_kernels import position_ndim
from jaxws.core.native import load_library
from jaxws.core.shapes import Images, Outputs, PoolFilters

# Sums over positions are made in so many parts, at most one of which a thread works on.
_PARTS = 16
BFLOAT16 = "_bfloat16"  # how names of kernels end that read it
# Kernels that are no maps of a layer, see jaxws.core.fused_adamw and jaxws.core.channel_sums.
_SUMS = ("moments", "gradient_sums")
_OTHERS = ("adamw", "adamw_shared", *_SUMS, *(name + BFLOAT16 for name in _SUMS))


@functools.cache
def available() -> bool:
    """Whether the kernels could be compiled and loaded.

    Example:
      >>> available() in (True, False)
      True
    """
    library = load_library()
    if library is None:
        return False
    names = [*MAPS, *_OTHERS]
    if multiplies_bfloat16():
        names += [name + BFLOAT16 for name in MAPS]
    for name in names:
        symbol = jax.ffi.pycapsule(getattr(library, f"jaxws_{name}"))
        jax.ffi.register_ffi_target(target(name), symbol, platform="cpu")
    return True


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether layers in bfloat16 are computed so; else they are widened to float32.

    Example:
      >>> multiplies_bfloat16() in (True, False)
      True
    """
    return hasattr(load_library(), f"jaxws_forward{BFLOAT16}")


def target(name: str) -> str:
    """XLA's name of a kernel.

    ``jax.export`` cannot serialise programs with kernels of ours, and quotes their names when it
    says so. It is the one place where we can tell what to do.

    Args:
      name: of the C++ function, without the prefix.

    Returns:
      A name with advice.

    Example:
      >>> target("forward").split()[0]
      'jaxws_forward'
    """
    return f"jaxws_{name} (for jax.export: implementation='slices', conv=nn.Conv)"


def forward(x: Images, kernel: PoolFilters, spec: Spec) -> Outputs:
    """y (h, w, f, n) of x (H, W, c, n) and the kernel (h, w, i, j, c / groups, f)."""
    shape = (*spec.window.output_size, kernel.shape[-1], x.shape[-1])
    dtype = _dtype(x, kernel, spec)
    y = _call("forward", _image(x, dtype), _filters(kernel, dtype), shape, dtype, spec)
    return y.astype(spec.result)


def input_gradient(dy: Outputs, kernel: PoolFilters, spec: Spec) -> Images:
    """dx (H, W, c, n) of dy (h, w, f, n) and the kernel (h, w, i, j, c / groups, f)."""
    shape = (*spec.window.input_size, kernel.shape[-2] * spec.groups, dy.shape[-1])
    # Two features are multiplied at once.
    is_odd = kernel.shape[-1] // spec.groups % 2
    dtype = jnp.dtype(jnp.float32) if is_odd else _dtype(dy, kernel, spec)
    dx = _call("input_gradient", _image(dy, dtype), _filters(kernel, dtype), shape, dtype, spec)
    return dx.astype(kernel.dtype)


def kernel_gradient(x: Images, dy: Outputs, spec: Spec) -> PoolFilters:
    """The kernel's gradient (h, w, i, j, c / groups, f) of x (H, W, c, n) and dy (h, w, f, n)."""
    shape = kernel_shape(x, dy, spec)
    dtype = _dtype(x, dy, spec)
    if dtype == jnp.bfloat16 and x.shape[-1] % 2:
        # Two images are multiplied at once: here the last one and zeros.
        x, dy = (jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, 1)]) for a in (x, dy))
    arrays = _image(x, dtype), _image(dy, dtype)
    if spec.filters is None or _tasks_have_blocks(spec.block):
        return _call("kernel_gradient", *arrays, shape, jnp.float32, spec).astype(x.dtype)
    parts = _call("kernel_gradient", *arrays, (_PARTS, *shape), jnp.float32, spec)
    return parts.sum(0).astype(x.dtype)


def _tasks_have_blocks(block: tuple[int, ...] | None) -> bool:
    """Whether the sum over a block is one task's, as parts would be larger than all positions'.

    A task has several rows and columns, but one place along the first of three axes.
    """
    return block is not None and math.prod(block) < _PARTS and (len(block) < 3 or block[0] == 1)


def _dtype(a: jax.Array, b: jax.Array, spec: Spec) -> np.dtype:
    """What the kernels read: bfloat16 where nothing in the layer is wider."""
    narrow = multiplies_bfloat16() and all(
        dtype == jnp.bfloat16 for dtype in (a.dtype, b.dtype, spec.result)
    )
    return jnp.dtype(jnp.bfloat16 if narrow else jnp.float32)


def _call(
    name: str,
    a: jax.Array,
    b: jax.Array,
    shape: tuple[int, ...],
    dtype: jax.typing.DTypeLike,
    spec: Spec,
) -> jax.Array:
    """One of the three maps, on arrays with exactly three spatial axes."""
    ndim = len(spec.window.kernel_size)
    ones = (1,) * (3 - ndim)
    full = (*ones, *shape)
    if name == "kernel_gradient":
        parts, sizes = shape[: -2 * ndim - 2], shape[-2 * ndim - 2 :]
        full = (*parts, *ones, *sizes[:ndim], *ones, *sizes[ndim:])
    if 0 in (*full, *a.shape, *b.shape):
        return vary_alike(a, jnp.zeros(shape, dtype))[1]
    kernel = target(name + BFLOAT16 if a.dtype == jnp.bfloat16 else name)
    call = jax.ffi.ffi_call(kernel, jax.ShapeDtypeStruct(full, dtype), vmap_method="sequential")
    # The kernel is the second of two arrays, or the result.
    filters = full[-8:-5] if name == "kernel_gradient" else b.shape[:3]
    y = call(a, b, geometry=_geometry(spec, filters))
    _, y = vary_alike(a, y)
    return y.reshape(shape)


def _image(x: jax.Array, dtype: np.dtype) -> jax.Array:
    return x.astype(dtype).reshape((1,) * (5 - x.ndim) + x.shape)


def _filters(kernel: jax.Array, dtype: np.dtype) -> jax.Array:
    ndim = position_ndim(kernel)
    ones = (1,) * (3 - ndim)
    shape = ones + kernel.shape[:ndim] + ones + kernel.shape[ndim:]
    return kernel.astype(dtype).reshape(shape)


def _geometry(spec: Spec, filters: tuple[int, ...]) -> np.ndarray:
    """The fields of the C++ struct of that name, in order, with three spatial axes each."""
    window = spec.window
    low = [pair[0] for pair in window.padding]
    fields = [
        (window.input_size, 1),
        (window.output_size, 1),
        (window.kernel_size, 1),
        (window.strides, 1),
        (low, 0),
        (window.dilation, 1),
        (filters, 1),
        (spec.block or (), 1),
    ]
    rows = [[fill] * (3 - len(values)) + list(values) for values, fill in fields]
    return np.array([*np.ravel(rows), spec.groups], np.int64)


def _unsupported_reason(
    spec: Spec, kernel_shape: Sequence[int], batch: int, dtype: np.dtype
) -> str | None:
    if spec.accumulate != jnp.float32:
        return f"the dtype {dtype}: expected float32 or a half precision"
    return None if available() else "this machine: the C++ kernels could not be built, see the log"


NATIVE = Implementation(forward, input_gradient, kernel_gradient, _unsupported_reason, folds=True)
