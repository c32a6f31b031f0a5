"""The layer as one differentiable operation, whatever computes it.

The layer is linear in its image x and in its kernel, and so is the derivative in each of the two.
The three maps (x, kernel) -> y, (dy, kernel) -> dx and (x, dy) -> dkernel are each the derivative
of the other two, so three custom rules make reverse mode of any order exact, and nothing but x and
the kernel is kept between the forward and the backward pass. Forward mode (``jax.jvp``,
``jax.jacfwd``, ``jax.hessian``) has no custom rule in JAX that could be transposed: it needs
``"slices"`` or ``"patches"``, which are plain JAX. JAX says so without their names, and has no hook
to say more: :func:`_naming_the_remedy` catches what is raised while a layer is traced; under
``jax.jit`` it is raised when the program is lowered, outside of any function of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax

from jaxws.core.blocks import expand_blocks
from jaxws.core.implementations import dispatch, patches, slices
from jaxws.core.implementations.manual_axes import vary_alike
from jaxws.core.implementations.spec import Spec
from jaxws.core.islands import exchange
from jaxws.core.local_kernels import position_ndim
from jaxws.core.pooled import PooledKernel
from jaxws.core.pools import spread_pools
from jaxws.core.shapes import Filters, Images, Outputs, PoolFilters

PLAIN = {"slices": jax.checkpoint(slices.forward, static_argnums=2), "patches": patches.forward}
NAMES = (*PLAIN, *dispatch.BY_NAME)


def contract(
    x: Images,
    kernel: PoolFilters | PooledKernel,
    spec: Spec,
    implementation: str | None,
) -> Outputs:
    """y[h, w, f, n] = sum over i, j, c of x[h + i, w + j, c, n] * kernel[h, w, i, j, c, f].

    Args:
      x: images, shape (H, W, c, n), unpadded, of the dtype to compute in.
      kernel: filters, shape (h, w, i, j, c / groups, f), of the same dtype; maybe pooled, or one
        for each ``spec.block``.
      spec: the geometry and dtypes of the layer.
      implementation: one of ``NAMES`` or None.

    Returns:
      y, shape (h, w, f, n), in ``spec.result``.

    Raises:
      ValueError: an implementation that cannot compute this layer, or not in forward mode.
    """
    if implementation in PLAIN:
        weights = kernel.spread() if isinstance(kernel, PooledKernel) else kernel
        if spec.block is not None:
            weights = expand_blocks(weights, spec.window.output_size, spec.block)
        return PLAIN[implementation](x, weights, spec)
    if implementation is not None:
        shape = (*spec.window.output_size, *kernel.shape[position_ndim(kernel) :])
        dispatch.check(implementation, spec, shape, x.shape[-1], x.dtype)
    y: Outputs
    with _naming_the_remedy():
        if not isinstance(kernel, PooledKernel):
            y = _forward(*vary_alike(x, kernel), spec, implementation)
        elif kernel.probe is None:
            y = _forward(*vary_alike(x, kernel.filters), spec, implementation)
        else:
            y = _forward_probed(*vary_alike(x, kernel.filters, kernel.probe), spec, implementation)
    return y


@contextmanager
def _naming_the_remedy() -> Iterator[None]:
    """Says what to do about forward mode, where JAX says only that there is none."""
    try:
        yield
    except TypeError as error:
        if "forward-mode" not in str(error):
            raise
        raise ValueError(
            "jax.jvp, jax.jacfwd or jax.hessian of a locally connected layer: expected an"
            " implementation that has a forward mode; give implementation='slices' to the function"
            " or layer."
        ) from error


def contract_transposed(
    dy: Outputs, kernel: Filters | PooledKernel, spec: Spec, implementation: str | None
) -> Images:
    """The transpose of :func:`contract` in x, as a differentiable operation of its own.

    Args:
      dy: shape (h, w, f, n), of the dtype to compute in.
      kernel: as there.
      spec: the geometry and dtypes of the layer that is transposed; its result has dy's dtype.
      implementation: as there.

    Returns:
      dx, shape (H, W, c, n), in the kernel's dtype.

    Raises:
      ValueError: an implementation that cannot compute this layer.
    """
    filters: Any = kernel
    if isinstance(kernel, PooledKernel):
        filters = kernel.filters if kernel.probe is None else kernel.spread()
    if implementation in PLAIN:
        weights = spread_pools(filters, spec.window.output_size)
        return slices.transpose(
            lambda x: PLAIN[implementation](x, weights, spec), weights, dy, spec
        )
    if implementation is not None:
        dispatch.check(implementation, spec, kernel.shape, dy.shape[-1], dy.dtype)
    with _naming_the_remedy():
        dx: Images = _input_gradient(*vary_alike(dy, filters), spec, implementation)
    return dx


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _forward(x: Images, kernel: PoolFilters, spec: Spec, implementation: str | None) -> Outputs:
    return exchange.run("forward", x, kernel, spec, implementation)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _input_gradient(
    dy: Outputs, kernel: PoolFilters, spec: Spec, implementation: str | None
) -> Images:
    return exchange.run("input_gradient", dy, kernel, spec, implementation)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _kernel_gradient(x: Images, dy: Outputs, spec: Spec, implementation: str | None) -> PoolFilters:
    return exchange.run("kernel_gradient", x, dy, spec, implementation)


def _folding(spec: Spec, kernel: PoolFilters) -> Spec:
    """A filter that repeats gets the gradients of all its positions, added up."""
    return spec.folding(kernel.shape[: position_ndim(kernel)])


def _rule(function: Any, first: Callable[..., Any], second: Callable[..., Any]) -> None:
    """Says that the derivatives of ``function(a, b)``, given its cotangent t, are these two."""
    function.defvjp(
        lambda a, b, *static: (function(a, b, *static), (a, b)),
        lambda spec, name, ab, t: (first(*ab, t, spec, name), second(*ab, t, spec, name)),
    )


_rule(
    _forward,
    lambda x, kernel, t, *static: _input_gradient(t, kernel, *static),
    lambda x, kernel, t, spec, name: _kernel_gradient(x, t, _folding(spec, kernel), name),
)
_rule(
    _input_gradient,
    lambda dy, kernel, t, *static: _forward(t, kernel, *static),
    lambda dy, kernel, t, spec, name: _kernel_gradient(t, dy, _folding(spec, kernel), name),
)
_rule(
    _kernel_gradient,
    lambda x, dy, t, *static: _input_gradient(dy, t, *static),
    lambda x, dy, t, *static: _forward(x, t, *static),
)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _forward_probed(
    x: Images, filters: PoolFilters, probe: Filters, spec: Spec, implementation: str | None
) -> Outputs:
    """``_forward`` of the filters plus the probe, which is zero."""
    y: Outputs = _forward(x, filters, spec, implementation)
    return y


def _probed_gradients(
    spec: Spec, implementation: str | None, arrays: tuple[Images, PoolFilters], t: Outputs
) -> tuple[Images, PoolFilters, Filters]:
    x, filters = arrays
    dkernel = _kernel_gradient(x, t, spec, implementation)
    periods = filters.shape[: position_ndim(filters)]
    folded = dispatch.fold(dkernel, periods)
    return _input_gradient(t, filters, spec, implementation), folded, dkernel


_forward_probed.defvjp(
    lambda x, filters, probe, *static: (_forward_probed(x, filters, probe, *static), (x, filters)),
    _probed_gradients,
)
