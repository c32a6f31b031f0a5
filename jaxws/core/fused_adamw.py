"""AdamW of a locally connected layer and the moments of its pools, in one pass over memory.

A layer of this kind has more weights than a step has activations, and each is used once per image:
what an optimizer costs is how often it passes over them. XLA makes a pass of its own of each moment
of AdamW, of the update, of the sum with the weights, and two or three of mean and variance over
pools. The C++ kernel of jaxws/core/native/adamw.cc, for CPUs, reads everything once.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxws.core.implementations import native
from jaxws.core.implementations.dispatch import default_name
from jaxws.core.local_kernels import Kernel, PyTree, map_local_kernels
from jaxws.core.partitioning import may_be_partitioned
from jaxws.core.pooled import PooledKernel
from jaxws.core.pools import Grid
from jaxws.core.shapes import Filters


class AdamW(NamedTuple):
    """Coefficients, as :func:`optax.adamw` names them; ``eps_root`` is 0.

    Attributes:
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added to the root of the second moment.
      weight_decay: times the learning rate, how much weights shrink in a step.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 1e-4


class LayerUpdate(NamedTuple):
    """A layer after a step, and what its pools are then.

    Attributes:
      mu: first moments, shape (h, w, i, j, c / groups, f).
      nu: second moments, likewise.
      weights: likewise; None of a layer whose weights were pooled before.
      mean: of every pool, as :func:`jaxws.pool_mean` gives it.
      variance: of every pool, as :func:`jaxws.pool_variance` gives it.
    """

    mu: Filters
    nu: Filters
    weights: Filters | None
    mean: jax.Array
    variance: jax.Array


def is_supported(params: PyTree) -> bool:
    """Whether all layers can be updated so: float32, on one device that has the C++ kernels.

    Args:
      params: of a network, traced or not.

    Returns:
      False also where there is no locally connected layer.

    Example:
      >>> is_supported({"bias": jnp.ones(3)})
      False
    """
    kernels: list[Kernel] = []
    map_local_kernels(lambda _, kernel: kernels.append(kernel), params)
    arrays = [k.filters if isinstance(k, PooledKernel) else k for k in kernels]
    return (
        bool(arrays)
        and all(isinstance(a, jax.Array) and a.dtype == jnp.float32 and a.size for a in arrays)
        and not may_be_partitioned(*arrays)
        and default_name() == "native"
    )


def update_layer(
    kernel: Kernel,
    grad: Filters,
    mu: Filters,
    nu: Filters,
    *,
    grid: Grid,
    adamw: AdamW,
    learning_rate: jax.typing.ArrayLike,
    count: jax.Array,
    unless: jax.Array | None = None,
) -> LayerUpdate:
    """One step of :func:`optax.adamw`, and mean and variance of the weights in every pool after it.

    Args:
      kernel: weights before the step, (h, w, i, j, c / groups, f), or the pools' filters.
      grad: of the loss, at every position.
      mu: first moments before the step.
      nu: second moments before the step.
      grid: of the pools. Those of a pooled kernel are its own.
      adamw: coefficients.
      learning_rate: of this step.
      count: of steps, this one included.
      unless: where true, weights and moments stay as they are, whatever the gradient is.

    Returns:
      A :class:`LayerUpdate`; the numbers are those of optax, up to rounding.

    Example:
      >>> from jaxws.core.pools import make_grid
      >>> w, g, zeros = jnp.ones((2, 1, 1, 1)), jnp.array([1.0, -1.0]), jnp.zeros((2, 1, 1, 1))
      >>> after = update_layer(
      ...     w, g.reshape(w.shape), zeros, zeros, grid=make_grid(w, "grid"),
      ...     adamw=AdamW(weight_decay=0), learning_rate=jnp.float32(0.5), count=jnp.asarray(1))
      >>> [round(float(x), 3) for x in (*after.weights.ravel(), after.mean[0, 0, 0, 0])]
      [0.5, 1.5, 1.0]
    """
    shared = isinstance(kernel, PooledKernel)
    weights = kernel.filters if isinstance(kernel, PooledKernel) else kernel
    steps = count.astype(jnp.float32)
    scales = (1 / (1 - decay**steps) for decay in (adamw.b1, adamw.b2))
    numbers = (learning_rate, *scales, False if unless is None else unless)
    rates = jnp.stack([jnp.asarray(x, jnp.float32) for x in numbers])
    on_cpu = _native if native.available() else _plain
    results = lax.platform_dependent(
        grad,
        mu,
        nu,
        weights,
        rates,
        cpu=lambda *arrays: on_cpu(*arrays, grid=grid, adamw=adamw, shared=shared),
        default=lambda *arrays: _plain(*arrays, grid=grid, adamw=adamw, shared=shared),
    )
    return LayerUpdate(*results[:2], *([None] if shared else []), *results[2:])


def _native(
    grad: jax.Array,
    mu: jax.Array,
    nu: jax.Array,
    weights: jax.Array,
    rates: jax.Array,
    *,
    grid: Grid,
    adamw: AdamW,
    shared: bool,
) -> list[jax.Array]:
    """(mu, nu, weights, mean, variance), without weights where they are shared."""
    arrays = [mu, nu] if shared else [mu, nu, weights]
    pools = jax.ShapeDtypeStruct((*grid.periods, *grad.shape[len(grid.periods) :]), jnp.float32)
    call = jax.ffi.ffi_call(
        native.target("adamw_shared" if shared else "adamw"),
        [*(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays), pools, pools],
        input_output_aliases={1 + i: i for i in range(len(arrays))},
        vmap_method="sequential",
    )
    ones = (1,) * (3 - len(grid.periods))
    geometry = np.array([*ones, *grid.local, *ones, *grid.periods], np.int64)
    results = call(
        grad, mu, nu, weights, rates, geometry=geometry, coefficients=np.array(adamw, np.float32)
    )
    return list(results)


def _plain(
    grad: jax.Array,
    mu: jax.Array,
    nu: jax.Array,
    weights: jax.Array,
    rates: jax.Array,
    *,
    grid: Grid,
    adamw: AdamW,
    shared: bool,
) -> list[jax.Array]:
    """The same by XLA: what the kernel computes, and what other platforms do."""
    weights = grid.spread(weights) if shared else weights
    before = (mu, nu, weights)
    mu = (1 - adamw.b1) * grad + adamw.b1 * mu
    nu = (1 - adamw.b2) * jnp.square(grad) + adamw.b2 * nu
    step = mu * rates[1] / (jnp.sqrt(nu * rates[2]) + adamw.eps) + adamw.weight_decay * weights
    after = (mu, nu, weights - rates[0] * step)
    mu, nu, weights = (jnp.where(rates[3] > 0, *each) for each in zip(before, after, strict=True))
    mean, variance = grid.moments(weights)
    return [mu, nu, *([] if shared else [weights]), mean, variance]
