"""The sleep phase of a network: Hebbian weight sharing driven by noise (Sec. 4, Eq. 13).

While the network sleeps, a k x k patch of Gaussian noise, repeated over its input, makes all
neurons of a pool see the same patch x. Lateral connections subtract the pool's mean response, and
each weight changes by a Hebbian rule, over a number of patches at a time::

    dw_i = -rate * (mean over patches of (z_i - mean_j z_j) x + gamma (w_i - w_i_init))

The rule conserves the pool's mean, so it acts on deviations from it alone, by the same linear map
for every neuron of a pool and every feature. Where a phase has many iterations, that map is
composed first, a matrix of the size of one filter, and weights are read and written once; see
:func:`_evolve`.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jaxws.config.choices import BORDERS, check_one_of
from jaxws.core.local_kernels import PyTree, accumulation_dtype, map_local_kernels, position_ndim
from jaxws.core.packed import PackedKernel, pack_kernel, unpack_kernel
from jaxws.core.pooled import PooledKernel
from jaxws.core.shapes import Filters
from jaxws.core.window import LayerWindow
from jaxws.dynamics.phase import PUBLISHED, Rule, check_rate, check_rule
from jaxws.dynamics.tiling import Tiling, by_pool, by_position, make_tiling


def sleep_phase(
    key: jax.Array,
    params: PyTree,
    rule: Rule = PUBLISHED,
    *,
    borders: str = "in",
    windows: Mapping[str, LayerWindow] | None = None,
    missing_ok: bool = False,
) -> PyTree:
    """Shares weights in every locally connected layer by Hebbian plasticity on noise, Eq. (13).

    Pools are the k * k interleaved grids of :func:`jaxws.share_weights`, which is the limit of many
    iterations and small gamma. Defaults of :class:`Rule` are those of the published code. Pure;
    works under ``jit`` and ``vmap``.

    Args:
      key: random key of the noise.
      params: any pytree; leaves named ``local_kernel`` have shape (h, w, i, j, c / groups, f).
      rule: iterations, patterns, rate and gamma.
      borders: ``'in'``: neurons whose receptive field is padded see the pattern go on beyond the
        image's border, and are in the pools. ``'out'``: they are in no pool and keep their weights,
        as in the published code; needs ``windows``.
      windows: strides, padding and groups of each layer, by :func:`jaxws.layer_windows`. Without
        them, a layer is taken to have stride 1, no padding and one group, which changes which draws
        of the noise a neuron sees but not their distribution.
      missing_ok: allows a pytree without any such leaf, which is an error otherwise.

    Returns:
      A pytree of the same structure, shapes and dtypes.

    Raises:
      ValueError: a number of ``rule`` that is out of range, or a rate at which weights would
        diverge (:func:`jaxws.dynamics.variance_ratio`); no layer is locally connected; a layer
        with a mask; a kernel that is larger than its layer; ``windows`` that are not those of
        ``params``.

    Example:
      >>> kernel = jax.random.normal(jax.random.key(0), (6, 6, 3, 3, 2, 4)) + 1
      >>> params = {"conv1": {"local_kernel": kernel}}
      >>> from jaxws import weight_snr
      >>> shared = sleep_phase(jax.random.key(1), params, Rule(iterations=200))
      >>> bool(weight_snr(shared)["conv1"] > 1e6 * weight_snr(params)["conv1"])
      True
    """
    check_sleep_phase(params, rule, borders=borders, windows=windows, missing_ok=missing_ok)

    def sleep(path: str, kernel: Any) -> Any:
        if isinstance(kernel, PooledKernel):
            return kernel  # one filter per pool: there is nothing left to equalise
        layer = None if windows is None else windows[path]
        # A layer's noise does not depend on which other layers there are.
        layer_key = jax.random.fold_in(key, zlib.crc32(path.encode()))
        if isinstance(kernel, PackedKernel):
            weights = unpack_kernel(kernel.array, kernel.kernel_size)
            slept = _sleep(layer_key, weights, rule, layer, borders)
            return dataclasses.replace(kernel, array=pack_kernel(slept))
        return _sleep(layer_key, jnp.asarray(kernel), rule, layer, borders)

    return map_local_kernels(sleep, params)


def check_sleep_phase(
    params: PyTree,
    rule: Rule = PUBLISHED,
    *,
    borders: str = "in",
    windows: Mapping[str, LayerWindow] | None = None,
    missing_ok: bool = False,
) -> None:
    """Checks the arguments of :func:`sleep_phase` without computing anything.

    Args:
      params: as there, or their shapes.
      rule: as there.
      borders: as there.
      windows: as there.
      missing_ok: as there.

    Raises:
      ValueError: as there.

    Example:
      >>> check_sleep_phase({"conv1": {"local_kernel": jnp.ones((8, 8, 3, 3, 16, 4))}})
    """
    check_rule(rule)
    check_one_of("borders", borders, BORDERS)
    if borders == "out" and windows is None:
        raise ValueError(
            "borders='out' without windows: the shape of a kernel does not tell which neurons see"
            " padding; give windows=jaxws.layer_windows(model, image_shape), or borders='in'."
        )

    def check(path: str, kernel: Any) -> Any:
        if windows is not None and path not in windows:
            raise ValueError(
                f"windows has no layer {path!r}, but params do: give those of the same network, by"
                " jaxws.layer_windows(model, image_shape)."
            )
        layer = None if windows is None else windows[path]
        tiling = make_tiling(path, tuple(kernel.shape), layer, borders == "out")
        check_rate(path, tiling.entries.shape[1], rule)

    needed_by = None if missing_ok else "sleep_phase"
    map_local_kernels(check, params, needed_by=needed_by, masks={})  # none with a mask


# Jitted for callers that are not; layers of the same geometry share a program.
@partial(jax.jit, static_argnames=("rule", "layer", "borders"))
def _sleep(
    key: jax.Array, kernel: Filters, rule: Rule, layer: LayerWindow | None, borders: str
) -> Filters:
    """A phase of one layer, (h, w, i, j, c / groups, f) to the same."""
    tiling = make_tiling("", kernel.shape, layer, borders == "out")
    weights = _by_pool(kernel, tiling).astype(accumulation_dtype(kernel.dtype))
    pooled = jnp.asarray(tiling.pooled)[:, None, None, :, None]
    counts = np.maximum(tiling.pooled.sum(axis=1), 1)[:, None, None, None, None]
    mean = jnp.sum(weights, axis=3, where=pooled, keepdims=True) / counts.astype(weights.dtype)
    deviation = jnp.where(pooled, weights - mean, 0)
    flat = deviation.reshape(*deviation.shape[:3], -1)
    evolved = _evolve(key, flat, tiling, rule).reshape(deviation.shape)
    weights = jnp.where(pooled, mean + evolved, weights)
    return _by_position(weights, tiling, kernel.shape).astype(kernel.dtype)


def _evolve(
    key: jax.Array, deviation: Float[Array, "pools g inputs m"], tiling: Tiling, rule: Rule
) -> Float[Array, "pools g inputs m"]:
    """Applies all iterations to deviations (pools, groups, inputs, neurons * features / groups).

    An iteration costs 4 * patterns operations per weight, the composed map 2 * inputs for all of
    them, and as much to compose as to apply an iteration to one filter per input.
    """
    inputs = tiling.entries.shape[1]
    if 2 * rule.iterations * rule.patterns <= inputs:
        return _iterate(key, deviation, tiling.entries, rule)
    # The map in the coordinates of the pattern, from which those of each pool are a permutation.
    identity = jnp.broadcast_to(
        jnp.eye(inputs, dtype=deviation.dtype), (1, tiling.groups, inputs, inputs)
    )
    composed = _iterate(key, identity, np.arange(inputs)[None], rule)[0]
    maps = composed[:, tiling.entries[:, :, None], tiling.entries[:, None, :]]
    return jnp.einsum("gpab,pgbm->pgam", maps, deviation, precision=lax.Precision.HIGHEST)


def _iterate(
    key: jax.Array,
    start: Float[Array, "pools g inputs m"],
    entries: Int[np.ndarray, "pools inputs"],
    rule: Rule,
) -> Float[Array, "pools g inputs m"]:
    """The rule, step by step; pool p sees entry ``entries[p, a]`` of a patch as input a."""
    groups, inputs = start.shape[1:3]
    rate = rule.rate_for(inputs)

    def update(deviation: jax.Array, step_key: jax.Array) -> tuple[jax.Array, None]:
        # Drawn as a vector: arrays of more axes take XLA much longer to compile on CPUs.
        noise = jax.random.normal(step_key, (rule.patterns * groups * inputs,), start.dtype)
        patches = noise.reshape(rule.patterns, groups, inputs)[:, :, entries]
        response = jnp.einsum(
            "ngpa,pgam->pgnm", patches, deviation, precision=lax.Precision.HIGHEST
        )
        hebbian = jnp.einsum("ngpa,pgnm->pgam", patches, response, precision=lax.Precision.HIGHEST)
        pull = rule.gamma * (deviation - start)
        return deviation - rate * (hebbian / rule.patterns + pull), None

    return lax.scan(update, start, jax.random.split(key, rule.iterations))[0]


def _by_pool(kernel: Filters, tiling: Tiling) -> Float[Array, "pools g inputs N features"]:
    """(h, w, i, j, c, f) to (pools, groups, inputs, neurons of a pool, features of a group)."""
    positions, features = kernel.shape[: position_ndim(kernel)], kernel.shape[-1] // tiling.groups
    kernel = kernel.reshape(*positions, -1, tiling.groups, features)
    weights: jax.Array = by_pool(kernel, tiling.periods, jnp.pad)
    return weights.transpose(0, 3, 2, 1, 4)


def _by_position(
    weights: Float[Array, "pools g inputs N features"], tiling: Tiling, shape: tuple[int, ...]
) -> Filters:
    """The inverse of :func:`_by_pool`."""
    positions = shape[: len(tiling.periods)]
    weights = weights.transpose(0, 3, 2, 1, 4)
    kernel: jax.Array = by_position(weights, tiling.periods, positions)
    return kernel.reshape(shape)
