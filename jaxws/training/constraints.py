"""Dale's law: a neuron excites all its targets or inhibits all of them.

The weights that read one presynaptic channel keep one sign through training. They are a part of the
optimizer: an update that would change a weight's sign ends at 0 instead, the nearest point that is
allowed, from where the weight may grow again. Which channels are excitatory is in the optimizer's
state, and so in checkpoints.

The law holds for what a weight does, where a channel's activity is not negative, as after a ReLU,
and where nothing turns a neuron's input around afterwards: scales of a BatchNorm that follows
belong to those that are kept from falling below 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxws.config.choices import DALE_SIGNS, check_one_of
from jaxws.core.leaf_patterns import matches
from jaxws.core.local_kernels import KernelLayout, accumulation_dtype
from jaxws.core.packed import PackedKernel

PyTree = Any
_NO_FILTERS = ("bias", "scale")  # a locally connected layer's have as many axes as some filters


class SignState(NamedTuple):
    """The signs that weights keep.

    Attributes:
      signs: by name of the leaf, with dots for slashes; int8, 1 or -1: of shape (c,), one for each
        presynaptic channel, or () for leaves that are kept from falling below 0.
    """

    signs: dict[str, jax.Array]


def dale(
    leaves: Sequence[str],
    *,
    signs: str = "seed",
    excitatory: float = 0.8,
    seed: int = 0,
    nonnegative: Sequence[str] = (),
    exempt: Sequence[str] = (),
) -> optax.GradientTransformation:
    """Keeps the sign of every weight that reads a channel: it comes last in :func:`optax.chain`.

    The updates that it returns take parameters into the orthant of their signs, or leave them at
    its border; from outside, as :func:`obey` has not been called, to the border. Sharing weights by
    their mean keeps signs. It works on the updates, so it does not know what a mask removes, which
    has a sign as well.

    Args:
      leaves: patterns of filters (:mod:`jaxws.core.leaf_patterns`) of shape (..., c, f): of a
        convolution, a locally connected or a dense layer. With groups, the channels at one place
        of all groups have one sign.
      signs: which channels are excitatory: ``'seed'`` draws them; ``'initial'`` takes the sign that
        the sum over a channel's weights has in ``init``, each leaf for itself.
      excitatory: fraction of channels that are, rounded to a whole number of them, of ``'seed'``.
      seed: of the draw. Layers of equally many channels get the same signs, so that those which
        read the same channels agree, as a residual block and its shortcut must.
      nonnegative: patterns of leaves that stay 0 or above.
      exempt: patterns of leaves that are left out of both.

    Returns:
      An optax transformation.

    Raises:
      ValueError: unknown ``signs``, a fraction beyond 0 to 1. From ``init``: no leaf fits, a leaf
        that is a bias, a scale or has fewer than two axes, or one in both lists. From ``update``:
        no ``params``.

    Example:
      >>> optimizer = optax.chain(optax.sgd(1.0), dale(["kernel"], signs="initial"))
      >>> params = {"kernel": jnp.array([[1.0, 3.0], [-2.0, 1.0]])}  # channels +, -
      >>> state = optimizer.init(params)
      >>> params = obey(params, state)
      >>> params["kernel"].tolist()
      [[1.0, 3.0], [-2.0, -1.0]]
      >>> grads = {"kernel": jnp.array([[2.0, 2.0], [2.0, -2.0]])}
      >>> updates, state = optimizer.update(grads, state, params)
      >>> optax.apply_updates(params, updates)["kernel"].tolist()
      [[0.0, 1.0], [-4.0, 0.0]]
    """
    check_one_of("signs", signs, DALE_SIGNS)
    if not 0 <= excitatory <= 1:
        raise ValueError(f"excitatory={excitatory!r}: expected a fraction from 0 to 1.")

    def init(params: PyTree) -> SignState:
        found: dict[str, jax.Array] = {}

        def visit(name: str, leaf: Any) -> Any:
            kinds = (matches(name, leaves), matches(name, nonnegative))
            if matches(name, exempt) or not any(kinds):
                return leaf
            if all(kinds):
                raise ValueError(f"leaf {name!r} is among both leaves and nonnegative.")
            if kinds[1]:
                found[_key(name)] = jnp.ones((), jnp.int8)
            else:
                found[_key(name)] = _channel_signs(name, leaf, signs, excitatory, seed)
            return leaf

        _map_named(visit, params)
        if not found:
            raise ValueError(f"dale: no leaf that is not exempt fits {tuple(leaves)!r}.")
        return SignState(found)

    def update(
        updates: PyTree, state: SignState, params: PyTree | None = None
    ) -> tuple[PyTree, SignState]:
        if params is None:
            raise ValueError("dale: expected params; call update(updates, state, params).")
        return _map_signs(_stop_at_zero, state, updates, params), state

    return optax.GradientTransformation(init, update)


def obey(params: PyTree, opt_state: optax.OptState) -> PyTree:
    """Turns weights around that have the wrong sign: what a network starts from.

    Args:
      params: weights.
      opt_state: of an optimizer; without :func:`dale` in it, nothing changes.

    Returns:
      The weights with the absolute values that they had.

    Example:
      >>> params = {"w": jnp.array([[1.0], [-2.0]])}
      >>> state = dale(["w"], excitatory=1.0).init(params)
      >>> obey(params, state)["w"].tolist()
      [[1.0], [2.0]]
    """
    return _with_signs(
        lambda leaf, sign: jnp.abs(leaf) * sign.astype(leaf.dtype), params, opt_state
    )


def project(params: PyTree, opt_state: optax.OptState) -> PyTree:
    """Makes weights 0 that have the wrong sign: what is needed after anything but an update.

    Args:
      params: weights.
      opt_state: as of :func:`obey`.

    Returns:
      The nearest weights that are allowed.

    Example:
      >>> params = {"w": jnp.array([[1.0], [-2.0]])}
      >>> state = dale(["w"], excitatory=1.0).init(params)
      >>> project(params, state)["w"].tolist()
      [[1.0], [0.0]]
    """
    return _with_signs(
        lambda leaf, sign: jnp.where(_is_wrong(leaf, sign), jnp.zeros_like(leaf), leaf),
        params,
        opt_state,
    )


def channel_signs(opt_state: optax.OptState) -> dict[str, jax.Array]:
    """Which channels are excitatory, as an optimizer's state has it.

    Args:
      opt_state: of an optimizer with :func:`dale` in it, or of any other.

    Returns:
      See :class:`SignState`; empty where nothing keeps signs.

    Example:
      >>> state = dale(["w"], excitatory=0.5, seed=1).init({"w": jnp.ones((4, 3))})
      >>> sorted(channel_signs(state)["w"].tolist())
      [-1, -1, 1, 1]
      >>> channel_signs(optax.adam(0.1).init({"w": jnp.ones(2)}))
      {}
    """
    states = jax.tree.leaves(opt_state, is_leaf=_is_signs)
    return {name: s for state in states if _is_signs(state) for name, s in state.signs.items()}


def _is_signs(node: Any) -> bool:
    return isinstance(node, SignState)


def _key(name: str) -> str:
    """Of a leaf that must not pass for the kernel whose signs it has: it has another shape."""
    return name.replace("/", ".")


def _channel_signs(name: str, leaf: Any, signs: str, excitatory: float, seed: int) -> jax.Array:
    if leaf.ndim < 2 or name.rpartition("/")[2] in _NO_FILTERS:
        raise ValueError(
            f"leaf {name!r} has shape {tuple(leaf.shape)}: Dale's law is of weights, (..., c, f),"
            " which read c channels; leave biases and scales out of its leaves."
        )
    channels = leaf.shape[-2]
    if signs == "initial":
        weights = jnp.asarray(leaf.to_array() if isinstance(leaf, KernelLayout) else leaf)
        axes = (*range(weights.ndim - 2), weights.ndim - 1)
        excites = weights.sum(axes, dtype=accumulation_dtype(weights.dtype)) >= 0
    else:
        key = jax.random.fold_in(jax.random.key(seed), channels)
        excites = jax.random.permutation(key, channels) < round(excitatory * channels)
    return jnp.where(excites, jnp.int8(1), jnp.int8(-1))


def _stop_at_zero(update: jax.Array, leaf: jax.Array, sign: jax.Array) -> jax.Array:
    """The update, or where it would lead to the wrong sign, that which ends at 0 exactly."""
    dtype = max(update.dtype, leaf.dtype, key=lambda dtype: dtype.itemsize)
    update, leaf = update.astype(dtype), leaf.astype(dtype)
    # Not "where it is right": what is not finite must stay so and be noticed.
    return jnp.where(_is_wrong(leaf + update, sign), -leaf, update)


def _is_wrong(leaf: jax.Array, sign: jax.Array) -> jax.Array:
    return leaf * sign.astype(leaf.dtype) < 0


def _with_signs(
    function: Callable[[jax.Array, jax.Array], jax.Array], params: PyTree, opt_state: Any
) -> PyTree:
    signs = channel_signs(opt_state)
    return _map_signs(function, SignState(signs), params) if signs else params


def _map_signs(
    function: Callable[..., Any], state: SignState, tree: PyTree, *others: Any
) -> PyTree:
    """Calls a function on arrays, those in the others, and signs that broadcast to them."""

    def visit(name: str, leaf: Any, *rest: Any) -> Any:
        signs = state.signs.get(_key(name))
        if signs is None:
            return leaf
        if isinstance(leaf, PackedKernel):  # (h, w, f, i * j * c)
            repeats = leaf.array.shape[-1] // len(signs)
            array = function(leaf.array, *(r.array for r in rest), jnp.tile(signs, repeats))
            return PackedKernel(array, leaf.kernel_size)
        return function(leaf, *rest, signs[:, None] if signs.ndim else signs)

    return _map_named(visit, tree, *others)


def _map_named(function: Callable[..., Any], tree: PyTree, *others: PyTree) -> PyTree:
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: function(
            jax.tree_util.keystr(path, simple=True, separator="/"), *leaves
        ),
        tree,
        *others,
        is_leaf=lambda node: isinstance(node, KernelLayout),
    )
