"""An update of AdamW in which each locally connected layer is one pass over memory.

Everything else, the learning rate and the count of steps too, is optax's: it updates the network
without its locally connected weights, in whose place it finds arrays without elements.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxws.core.fused_adamw import LayerUpdate, is_supported, update_layer
from jaxws.core.local_kernels import LOCAL_KERNEL, map_local_kernels
from jaxws.core.pooled import PooledKernel, is_pooled
from jaxws.core.pools import make_grid
from jaxws.core.snr import snr_of_moments
from jaxws.training.optimizers import KnownAdamW, last_learning_rate
from jaxws.training.state import TrainState


class Updated(NamedTuple):
    """Parameters and state of the optimizer after an update.

    Attributes:
      params: kernels that were pooled are again, which has shared them.
      opt_state: as the optimizer gives it.
      snr: by layer, as :func:`jaxws.weight_snr` gives it: after the update, before sharing.
    """

    params: Any
    opt_state: optax.OptState
    snr: dict[str, jax.Array]


def fused_update(
    state: TrainState,
    grads: Any,
    optimizer: optax.GradientTransformation,
    pools: str,
    unless: jax.Array | None = None,
) -> Updated | None:
    """Updates a state where that can be done in one pass over the weights.

    Args:
      state: before the update; weights pooled or not.
      grads: a gradient for every position of a layer.
      optimizer: an optax transformation.
      pools: ``'grid'`` or ``'global'``.
      unless: where true, parameters and state of the optimizer stay as they are.

    Returns:
      What ``optimizer.update`` and :func:`optax.apply_updates` give, up to rounding; None if the
      optimizer is not a :class:`jaxws.training.optimizers.KnownAdamW`, or as
      :func:`jaxws.core.fused_adamw.is_supported` says.

    Example:
      >>> params = {"fc": {"kernel": jnp.ones(3)}}
      >>> state = TrainState(jnp.asarray(0), params, {}, optax.sgd(0.1).init(params))
      >>> fused_update(state, params, optax.sgd(0.1), "grid") is None
      True
    """
    if not isinstance(optimizer, KnownAdamW) or not is_supported(state.params):
        return None
    params, opt_state = _update_rest(state, grads, optimizer)
    adam, before = _adam(opt_state), _adam(state.opt_state)
    layers: dict[str, LayerUpdate] = {}
    snr: dict[str, jax.Array] = {}

    def update(path: str, kernel: Any, *arrays: Any) -> Any:
        grid = make_grid(kernel, pools)
        layer = layers[path] = update_layer(
            kernel,
            *arrays,
            grid=grid,
            adamw=optimizer.coefficients(f"{path}/{LOCAL_KERNEL}".lstrip("/")),
            learning_rate=last_learning_rate(opt_state),
            count=adam.count,
            unless=unless,
        )
        snr[path] = snr_of_moments(layer.mean, layer.variance, grid.counts(layer.mean.ndim))
        return PooledKernel(layer.mean, kernel.positions) if is_pooled(kernel) else layer.weights

    kernels = map_local_kernels(update, state.params, grads, before.mu, before.nu)
    after = (params, opt_state)
    if unless is not None:
        old = (_rest(state.params), _map_adam(_rest_of_adam, state.opt_state))
        after = jax.tree.map(partial(jnp.where, unless), old, after)
    params = map_local_kernels(lambda path, _, kernel: kernel, after[0], kernels)

    def put_moments(adam: optax.ScaleByAdamState) -> optax.ScaleByAdamState:
        return adam._replace(
            mu=map_local_kernels(lambda path, _: layers[path].mu, adam.mu),
            nu=map_local_kernels(lambda path, _: layers[path].nu, adam.nu),
        )

    return Updated(params, _map_adam(put_moments, after[1]), snr)


def _update_rest(
    state: TrainState, grads: Any, optimizer: optax.GradientTransformation
) -> tuple[Any, optax.OptState]:
    """What optax makes of all but locally connected weights."""
    params = _rest(state.params)
    updates, opt_state = optimizer.update(
        _rest(grads), _map_adam(_rest_of_adam, state.opt_state), params
    )
    return optax.apply_updates(params, updates), opt_state


def _rest(tree: Any) -> Any:
    """A tree without locally connected weights, or what is like them."""

    def nothing(_: str, kernel: Any) -> jax.Array:
        return jnp.zeros((0,) * kernel.ndim)

    return map_local_kernels(nothing, tree)


def _rest_of_adam(adam: optax.ScaleByAdamState) -> optax.ScaleByAdamState:
    return adam._replace(mu=_rest(adam.mu), nu=_rest(adam.nu))


def _is_adam(node: Any) -> bool:
    return isinstance(node, optax.ScaleByAdamState)


def _adam(opt_state: optax.OptState) -> optax.ScaleByAdamState:
    (adam,) = filter(_is_adam, jax.tree.leaves(opt_state, is_leaf=_is_adam))
    return adam


def _map_adam(
    function: Callable[[optax.ScaleByAdamState], Any], opt_state: optax.OptState
) -> optax.OptState:
    return jax.tree.map(
        lambda node: function(node) if _is_adam(node) else node, opt_state, is_leaf=_is_adam
    )
