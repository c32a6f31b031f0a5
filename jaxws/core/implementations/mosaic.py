"""``"mosaic"``: kernels for TPUs, in Pallas, that cut the patches on the chip.

XLA's matrix products read whole arrays from HBM, so patches must be written there first, i * j
times the image, and read again. These kernels keep the few image rows that a row of output
positions sees in VMEM, cut each position's patch there and multiply it on the spot: image, weights
and result cross the memory bus once each, which is all that the layer costs on a TPU.

The batch is the last axis, on the 128 lanes of a vector register. Weights are handed over as
(h, w, f, i * j * c): HBM comes in tiles of 8 x 128 elements, which 32 features or channels as the
last axis would fill to a quarter. See :mod:`jaxws.core.packed` for keeping them so between steps.

Float32 products follow ``precision`` as everywhere on TPUs: by default the matrix unit rounds its
operands to bfloat16; ``"highest"`` (and ``"high"``, which Mosaic does not tell from it) computes in
float32. Sums are float32. One or two spatial axes, without groups, in float32 and bfloat16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from jaxws.core.implementations import mosaic_kernels
from jaxws.core.implementations.manual_axes import shape_like
from jaxws.core.implementations.mosaic_plan import VMEM_LIMIT, Plan, hbm_bytes, make_plan
from jaxws.core.implementations.spec import Implementation, Spec
from jaxws.core.packed import pack_kernel, unpack_kernel
from jaxws.core.pools import spread_pools
from jaxws.core.shapes import Filters, Images, Outputs, PoolFilters
from jaxws.core.window import Window

_HALF_OR_SINGLE = (jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16))


def supports(spec: Spec, channels: int, features: int, batch: int, dtype: np.dtype) -> bool:
    """Whether the three kernels can compute a layer on a TPU.

    Args:
      spec: geometry and dtypes.
      channels: input channels c.
      features: output features f.
      batch: number of images n.
      dtype: of image and weights.

    Returns:
      False for 3-D layers, groups, other dtypes than float32 and bfloat16, empty arrays, and layers
      of which not even one position and one row of images fit on the chip.

    Example:
      >>> from jaxws.core.window import make_window
      >>> window = make_window((56, 56), (3, 3), 1, 1)
      >>> spec = Spec(window, 1, np.dtype("float32"), np.dtype("float32"))
      >>> supports(spec, 32, 32, 256, np.dtype("float32"))
      True
    """
    ndim = len(spec.window.kernel_size)
    if ndim > 2 or spec.groups != 1 or isinstance(spec.precision, lax.DotAlgorithmPreset):
        return False
    if jnp.dtype(dtype) not in _HALF_OR_SINGLE or spec.result not in _HALF_OR_SINGLE:
        return False
    window = _two_axes_window(spec.window)
    plans = [
        make_plan(window, channels, features, batch, jnp.dtype(dtype), gradient=gradient)
        for gradient in (False, True)
    ]
    return None not in plans


def forward(x: Images, kernel: PoolFilters, spec: Spec, interpret: Any = False) -> Outputs:
    """y (h, w, f, n) of x (H, W, c, n) and the kernel (h, w, i, j, c, f)."""
    features, batch = kernel.shape[-1], x.shape[-1]
    x = _two_axes(x, spec)
    plan, filters = _plan_with_filters(spec, x.shape[2], kernel, batch, gradient=False)
    y = _call(
        mosaic_kernels.forward_body(plan, _precision(spec)),
        plan,
        image=_pad_batch(x, plan),
        outputs=shape_like(x, (*plan.window.output_size, features, plan.batch), spec.result),
        weights=filters,
        ring=x.dtype,
        interpret=interpret,
    )
    return y[..., :batch].reshape(*spec.window.output_size, features, batch)


def input_gradient(dy: Outputs, kernel: PoolFilters, spec: Spec, interpret: Any = False) -> Images:
    """dx (H, W, c, n) of dy (h, w, f, n) and the kernel (h, w, i, j, c, f)."""
    channels, batch = kernel.shape[-2], dy.shape[-1]
    dy = _two_axes(dy, spec)
    plan, filters = _plan_with_filters(spec, channels, kernel, batch, gradient=True)
    dx = _call(
        mosaic_kernels.input_gradient_body(plan, _precision(spec)),
        plan,
        image=shape_like(dy, (*plan.window.input_size, channels, plan.batch), kernel.dtype),
        outputs=_pad_batch(dy, plan),
        weights=filters,
        ring=jnp.dtype(jnp.float32),
        interpret=interpret,
    )
    return dx[..., :batch].reshape(*spec.window.input_size, channels, batch)


def kernel_gradient(x: Images, dy: Outputs, spec: Spec, interpret: Any = False) -> Filters:
    """The gradient (h, w, i, j, c, f) of the kernel, of x (H, W, c, n) and dy (h, w, f, n)."""
    features, batch, dtype = dy.shape[-2], x.shape[-1], x.dtype
    x, dy = _two_axes(x, spec), _two_axes(dy, spec)
    plan = _plan(spec, x.shape[2], features, batch, dtype, gradient=False)
    # One gradient per block of the batch, added up afterwards.
    blocks, weights = plan.grid[0], math.prod(plan.window.kernel_size) * x.shape[2]
    shape = (blocks, *plan.window.output_size, features, weights)
    gradient = _call(
        mosaic_kernels.kernel_gradient_body(plan, _precision(spec)),
        plan,
        image=_pad_batch(x, plan),
        outputs=_pad_batch(dy, plan),
        weights=shape_like(x, shape, dtype if blocks == 1 else jnp.dtype(jnp.float32)),
        ring=dtype,
        interpret=interpret,
    )
    gradient = gradient[0] if blocks == 1 else gradient.sum(0).astype(dtype)
    gradient = gradient.reshape(*spec.window.output_size, *gradient.shape[2:])
    return unpack_kernel(gradient, spec.window.kernel_size)


def _unsupported_reason(
    spec: Spec, kernel_shape: Sequence[int], batch: int, dtype: np.dtype
) -> str | None:
    channels, features = kernel_shape[-2] * spec.groups, kernel_shape[-1]
    if supports(spec, channels, features, batch, dtype):
        return None
    return (
        f"a kernel of shape {tuple(kernel_shape)}, {spec.groups} groups, {batch} images and the"
        f" dtype {dtype} (1-D and 2-D layers without groups, float32 or bfloat16, that fit on chip)"
    )


MOSAIC = Implementation(forward, input_gradient, kernel_gradient, _unsupported_reason)


def _call(
    body: Callable[..., None],
    plan: Plan,
    *,
    image: Any,
    outputs: Any,
    weights: Any,
    ring: Any,
    interpret: Any,
) -> jax.Array:
    """Calls a kernel on two arrays; the third is the shape of its result."""
    arrays = {"image": image, "outputs": outputs, "weights": weights}
    (result,) = (k for k, array in arrays.items() if isinstance(array, jax.ShapeDtypeStruct))
    blocks = {
        "image": _image_block(plan, image.shape[2]),
        "outputs": _outputs_block(plan, outputs.shape[2]),
        "weights": _weights_block(plan, weights.shape),
    }
    # What XLA cannot see. Every array crosses the bus once, weights once per block of the batch
    # unless they stay.
    moved = {name: hbm_bytes(array.shape, array.dtype) for name, array in arrays.items()}
    if result != "weights" and plan.filters is None:
        moved["weights"] *= plan.grid[0]
    flops = 2 * math.prod((*plan.window.output_size, *weights.shape[-2:])) * plan.batch
    call = pl.pallas_call(
        body,
        out_shape=arrays.pop(result),
        grid=plan.grid,
        out_specs=blocks.pop(result),
        in_specs=list(blocks.values()),
        scratch_shapes=[pltpu.VMEM((plan.slots, plan.width, image.shape[2], plan.lanes), ring)],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary", "arbitrary"),
            vmem_limit_bytes=VMEM_LIMIT,
        ),
        cost_estimate=pl.CostEstimate(flops, 0, sum(moved.values())),
        interpret=interpret,
        name=body.__qualname__.split("_body")[0],
    )
    computed: jax.Array = call(*arrays.values())
    return computed


def _image_block(plan: Plan, channels: int) -> pl.BlockSpec:
    """Rows of images (H, W, c, n), or of their gradient: ``stride`` rows per step."""

    def index(batch: jax.Array, step: jax.Array, columns: jax.Array) -> tuple[Any, ...]:
        first = step - plan.lag if plan.gradient else step
        return jnp.clip(first, 0, plan.row_blocks - 1), 0, 0, batch

    block = (plan.window.strides[0], plan.window.input_size[1], channels, plan.lanes)
    return pl.BlockSpec(block, index)


def _outputs_block(plan: Plan, features: int) -> pl.BlockSpec:
    """A block of columns of outputs (h, w, f, n), or of their cotangents."""

    def index(batch: jax.Array, step: jax.Array, columns: jax.Array) -> tuple[Any, ...]:
        return *_position(plan, step, columns), 0, batch

    return pl.BlockSpec((None, plan.columns, features, plan.lanes), index)


def _weights_block(plan: Plan, shape: tuple[int, ...]) -> pl.BlockSpec:
    """The same columns of weights (h, w, f, K), or of gradients (batch blocks, h, w, f, K).

    All of them (p, q, f, K) if they repeat.
    """
    if plan.filters is not None:
        return pl.BlockSpec(shape, lambda batch, step, columns: (0, 0, 0, 0))

    def index(batch: jax.Array, step: jax.Array, columns: jax.Array) -> tuple[Any, ...]:
        return *(batch,) * (len(shape) - 4), *_position(plan, step, columns), 0, 0

    return pl.BlockSpec((*(None,) * (len(shape) - 3), plan.columns, *shape[-2:]), index)


def _position(plan: Plan, step: jax.Array, columns: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Output row and block of columns of a step. Idle steps stay on a block, moving nothing."""
    row = step if plan.gradient else step - plan.lag
    last = plan.window.output_size[0] - 1
    columns = jnp.where(row < 0, 0, jnp.where(row > last, plan.column_blocks - 1, columns))
    return jnp.clip(row, 0, last), columns


def _plan_with_filters(
    spec: Spec, channels: int, kernel: jax.Array, batch: int, *, gradient: bool
) -> tuple[Plan, jax.Array]:
    """A plan and the packed filters that it reads; spread if those that repeat do not fit."""
    packed = _two_axes(pack_kernel(kernel), spec)
    window, arguments = _two_axes_window(spec.window), (kernel.shape[-1], batch, kernel.dtype)
    if packed.shape[:2] != window.output_size:
        filters = (packed.shape[0], packed.shape[1])
        plan = make_plan(window, channels, *arguments, gradient=gradient, filters=filters)
        if plan is not None:
            return plan, packed
        packed = spread_pools(packed, window.output_size)
    return _plan(spec, channels, *arguments, gradient=gradient), packed


def _plan(
    spec: Spec, channels: int, features: int, batch: int, dtype: np.dtype, *, gradient: bool
) -> Plan:
    window = _two_axes_window(spec.window)
    plan = make_plan(window, channels, features, batch, jnp.dtype(dtype), gradient=gradient)
    assert plan is not None, "see supports()"
    return plan


def _two_axes_window(window: Window) -> Window:
    """A 1-D layer as a 2-D one of one row; a 2-D one as it is."""
    if len(window.kernel_size) == 2:
        return window
    return Window(
        input_size=(1, *window.input_size),
        kernel_size=(1, *window.kernel_size),
        strides=(1, *window.strides),
        padding=((0, 0), *window.padding),
        dilation=(1, *window.dilation),
        output_size=(1, *window.output_size),
    )


def _two_axes(array: jax.Array, spec: Spec) -> jax.Array:
    return array if len(spec.window.kernel_size) == 2 else array[None]


def _pad_batch(array: jax.Array, plan: Plan) -> jax.Array:
    """Adds images of zeros where the batch is not a multiple of its blocks."""
    missing = plan.batch - array.shape[-1]
    return jnp.pad(array, ((0, 0), (0, 0), (0, 0), (0, missing))) if missing else array


def _precision(spec: Spec) -> lax.Precision:
    """Mosaic knows the fastest and the most exact one, the same for both operands."""
    given = spec.precision if isinstance(spec.precision, tuple) else (spec.precision,)
    exact = {lax.Precision.HIGH, lax.Precision.HIGHEST}
    known = [lax.Precision(p or "default") for p in given]
    return lax.Precision.HIGHEST if exact & set(known) else lax.Precision.DEFAULT
