"""The simulations of Figs 4 and 5 (A.5): how weights of a pool converge.

A follows the rule (13), or (21) in Fig. 5, one input per iteration. B integrates the circuit of Eq.
(8). All runs and gammas of a kernel size are computed at once, and all gammas of a run see the same
inputs from the same initial weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxws.dynamics.circuit import Circuit, CircuitState, at_rest
from jaxws.dynamics.descent import Descent, begin, descend, momentum_sgd
from jaxws.dynamics.fixed_points import fixed_point, gaussian_second_moment, neg_log_snr_min
from jaxws.dynamics.projected import present_projected, presentation_maps
from jaxws.dynamics.schedules import circuit_learning_rates, plastic_steps
from jaxws.dynamics.snr import neg_log_snr
from jaxws.dynamics.study import Curve, Study, check_study

_POINTS = 500  # of a curve, about
_CHUNK = 100  # iterations between reports of progress, about

Advance = Callable[[int], Any]


def simulate(
    study: Study, simulation: str, size: int, advance: Advance = lambda _: None
) -> list[Curve]:
    """Simulates all runs and gammas of one kernel size.

    Args:
      study: what to simulate.
      simulation: ``'A'`` or ``'B'``.
      size: k.
      advance: called with the number of iterations done since the last call.

    Returns:
      A curve for each gamma.

    Raises:
      ValueError: as :func:`check_study`.

    Example:
      >>> curves = simulate(Study(runs=2, gammas=(0.1,), presentations=10), "B", 3)
      >>> curves[0].values.shape
      (2, 11)
    """
    check_study(study)
    generators = _generators(study, size)
    initial = _draw(generators, (study.neurons, size**2), mean=1.0)
    length = study.length(simulation)
    every = _divisor(length, length // _POINTS)
    records = [np.asarray(jax.vmap(neg_log_snr)(initial))[None, None].repeat(len(study.gammas), 1)]
    chunks = _rule_chunks if simulation == "A" else _circuit_chunks
    for chunk in chunks(study, initial, generators, length, every):
        records.append(np.asarray(chunk))  # waits for it, so that progress is true
        advance(len(chunk) * every)
    values = np.concatenate(records).transpose(1, 2, 0)
    covariance = gaussian_second_moment(size**2, study.input_mean)
    return [
        Curve(
            simulation=simulation,
            size=size,
            gamma=gamma,
            iterations=np.arange(values.shape[2]) * every,
            values=values[index],
            text_floor=float(neg_log_snr_min(gamma)),
            exact_floor=_exact_floor(initial, covariance, gamma, study.alpha(simulation)),
        )
        for index, gamma in enumerate(study.gammas)
    ]


def _generators(study: Study, size: int) -> list[np.random.Generator]:
    """One for each run; NumPy's, for which nothing has to be compiled."""
    return [np.random.default_rng((study.seed, size, run)) for run in range(study.runs)]


def _divisor(length: int, most: int) -> int:
    return max(number for number in range(1, max(most, 1) + 1) if length % number == 0)


def _exact_floor(initial: jax.Array, covariance: jax.Array, gamma: float, alpha: float) -> float:
    ends = jax.vmap(lambda weights: fixed_point(weights, covariance, gamma, alpha=alpha))(initial)
    return float(jnp.mean(jax.vmap(neg_log_snr)(ends)))


def _spans(length: int, every: int) -> Iterator[tuple[int, int]]:
    chunk = every * max(1, _CHUNK // every)
    for start in range(0, length, chunk):
        yield start, min(chunk, length - start)


def _draw(
    generators: Sequence[np.random.Generator], shape: tuple[int, int], mean: float
) -> jax.Array:
    """Normal numbers of every run, (runs, *shape)."""
    draws = [generator.standard_normal(shape) for generator in generators]
    return jnp.asarray(np.stack(draws) + mean, jnp.result_type(float))


def _rule_chunks(
    study: Study,
    initial: jax.Array,
    generators: Sequence[np.random.Generator],
    length: int,
    every: int,
) -> Iterator[jax.Array]:
    """Records of A, (points, gammas, runs) at a time."""
    state = jax.vmap(partial(begin, optimizer=momentum_sgd()))(initial)
    state = _per_gamma(state, study)
    gammas = jnp.asarray(study.gammas)
    for _, number in _spans(length, every):
        x = _draw(generators, (number, initial.shape[-1]), study.input_mean)
        state, values = _descend_all(state, initial, x, gammas, study.alpha("A"), every)
        yield values


@partial(jax.jit, static_argnames=("alpha", "every"), donate_argnums=0)
def _descend_all(
    state: Descent,
    initial: Float[Array, "runs N d"],
    x: Float[Array, "runs iterations d"],
    gammas: Float[Array, "gammas"],
    alpha: float,
    every: int,
) -> tuple[Descent, Float[Array, "_records gammas runs"]]:
    def one(state: Descent, initial: jax.Array, x: jax.Array, gamma: jax.Array) -> Any:
        return descend(
            state, initial, x, momentum_sgd(), gamma=gamma, alpha=alpha, record_every=every
        )

    runs = jax.vmap(one, in_axes=(0, 0, 0, None), out_axes=(0, 1))
    everything = jax.vmap(runs, in_axes=(0, None, None, 0), out_axes=(0, 1))
    descended: tuple[Descent, jax.Array] = everything(state, initial, x, gammas)
    return descended


def _circuit_chunks(
    study: Study,
    initial: jax.Array,
    generators: Sequence[np.random.Generator],
    length: int,
    every: int,
) -> Iterator[jax.Array]:
    """Records of B, (points, gammas, runs) at a time."""
    circuit, plasticity = study.circuit, study.plasticity
    state = _per_gamma(jax.vmap(partial(at_rest, circuit=circuit))(initial), study)
    gammas = jnp.asarray(study.gammas)
    plastic = jnp.asarray(plastic_steps(circuit.steps, plasticity))
    for start, number in _spans(length, every):
        x = _draw(generators, (number, initial.shape[-1]), study.input_mean)
        presentations = np.arange(start, start + number)
        rates = jnp.asarray(
            circuit_learning_rates(presentations, circuit.steps, plasticity), x.dtype
        )
        state, values = present_all(state, initial, x, rates, plastic, gammas, circuit, every)
        yield values


@partial(jax.jit, static_argnames=("circuit", "every"), donate_argnums=0)
def present_all(
    state: CircuitState,
    initial: Float[Array, "runs N d"],
    x: Float[Array, "runs presentations d"],
    rates: Float[Array, "presentations steps"],
    plastic: Bool[Array, "steps"],
    gammas: Float[Array, "gammas"],
    circuit: Circuit,
    every: int,
) -> tuple[CircuitState, Float[Array, "_records gammas runs"]]:
    """Presents inputs to the circuits of all gammas and runs at once.

    Args:
      state: of all circuits, leading axes (gammas, runs); donated.
      initial: weights that gamma pulls towards, shape (runs, N, d).
      x: inputs, shape (runs, presentations, d).
      rates: learning rate of each step, shape (presentations, steps).
      plastic: whether weights change in each step, shape (steps,).
      gammas: shape (gammas,).
      circuit: its numbers.
      every: number of presentations from one record to the next; divides presentations.

    Returns:
      The state after them, and -log SNR, shape (presentations / every, gammas, runs).
    """
    x = x.swapaxes(0, 1)
    norms = jnp.sum(jnp.square(x), axis=-1)
    maps = presentation_maps(
        jnp.broadcast_to(norms[:, None], (len(x), len(gammas), x.shape[1])),
        rates.T[:, :, None, None],
        plastic,
        gamma=gammas[:, None],
        circuit=circuit,
    )
    runs = jax.vmap(partial(present_projected, circuit=circuit))
    everything = jax.vmap(runs, in_axes=(0, None, None, 0))

    def presentation(state: CircuitState, now: Any) -> tuple[CircuitState, None]:
        return everything(state, initial, *now), None

    def block(state: CircuitState, now: Any) -> tuple[CircuitState, jax.Array]:
        state, _ = lax.scan(presentation, state, now)
        return state, jax.vmap(jax.vmap(neg_log_snr))(state.weights)

    blocks = jax.tree.map(lambda a: a.reshape(-1, every, *a.shape[1:]), (x, maps))
    return lax.scan(block, state, blocks)


def _per_gamma(state: Any, study: Study) -> Any:
    return jax.tree.map(lambda a: jnp.repeat(a[None], len(study.gammas), axis=0), state)
