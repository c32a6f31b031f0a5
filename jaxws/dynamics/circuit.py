"""The circuit of Sec. 4.2: neurons, one inhibitory neuron, Hebbian plasticity, step by step.

Excitatory neurons see the same input x and are inhibited by one neuron that they all excite::

    tau dr_i/dt   = -r_i + w_i . x - alpha r_inh + b                (8a)
    tau dr_inh/dt = -r_inh + (1/N) sum_j r_j - b
    dw_i/dt      ~ -(r_i - b) x - gamma (w_i - w_i_init)            (8b)

so that a neuron's response above its baseline b is its own drive minus nearly the mean one. Here
the equations are integrated as they stand, with Euler's method; :mod:`jaxws.dynamics.projected`
computes the same faster. Times are in milliseconds throughout.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxws.dynamics.checks import check_above_zero, check_at_least, check_weights


class Circuit(NamedTuple):
    """The numbers of the circuit; the defaults are those of Fig. 4B.

    Attributes:
      alpha: strength of inhibition.
      tau: time constant of all rates, ms.
      baseline: b, of the excitatory neurons.
      dt: step of Euler's method, ms.
      duration: of the presentation of one input, ms.
      momentum: of the weights' updates.
    """

    alpha: float = 10.0
    tau: float = 30.0
    baseline: float = 1.0
    dt: float = 1.0
    duration: float = 150.0
    momentum: float = 0.95

    @property
    def steps(self) -> int:
        """Steps of Euler's method in a presentation."""
        return round(self.duration / self.dt)


class CircuitState(NamedTuple):
    """What changes in the circuit.

    Attributes:
      weights: shape (N, d).
      velocity: of the weights, as momentum keeps it: shape (N, d).
      rates: r of the excitatory neurons, shape (N,).
      inhibition: r_inh, a scalar.
    """

    weights: Float[Array, "*runs N d"]
    velocity: Float[Array, "*runs N d"]
    rates: Float[Array, "*runs N"]
    inhibition: Float[Array, "*runs"]


def check_circuit(circuit: Circuit) -> None:
    """Checks the circuit's numbers.

    Args:
      circuit: to check.

    Raises:
      ValueError: one of them is out of range, or a presentation is no whole number of steps.

    Example:
      >>> check_circuit(Circuit(alpha=-1.0))
      Traceback (most recent call last):
      ValueError: alpha=-1.0: expected at least 0.
    """
    check_at_least("alpha", circuit.alpha, infinite_ok=True)
    for name in ("tau", "dt", "duration"):
        check_above_zero(name, getattr(circuit, name))
    if not 0 <= circuit.momentum < 1:
        raise ValueError(f"momentum={circuit.momentum!r}: expected at least 0 and below 1.")
    if circuit.steps < 1 or abs(circuit.steps * circuit.dt - circuit.duration) > 1e-9:
        raise ValueError(
            f"duration={circuit.duration!r}, dt={circuit.dt!r}: expected a whole number of steps."
        )


def at_rest(weights: Float[Array, "N d"], circuit: Circuit) -> CircuitState:
    """The circuit without input: rates at the baseline, no inhibition, weights that do not move.

    Args:
      weights: shape (N, d).
      circuit: its numbers.

    Returns:
      A state.

    Raises:
      ValueError: numbers out of range, or weights of another shape.

    Example:
      >>> at_rest(jnp.ones((2, 4)), Circuit()).rates
      Array([1., 1.], dtype=float32)
    """
    check_circuit(circuit)
    check_weights(weights)
    rates = jnp.full(weights.shape[:1], circuit.baseline, weights.dtype)
    return CircuitState(weights, jnp.zeros_like(weights), rates, jnp.zeros((), weights.dtype))


def steady_state(
    weights: Float[Array, "N d"], x: Float[Array, "d"], circuit: Circuit
) -> tuple[Float[Array, "N"], Float[Array, ""]]:
    """The rates that a constant input leads to, with the weights held: Eq. (8a) at rest.

    ``r_i - b = w_i . x - alpha / (1 + alpha) mean_j(w_j . x)``, which tends to the response of rule
    (13) as alpha grows, and ``r_inh = mean_j(w_j . x) / (1 + alpha)``.

    Args:
      weights: shape (N, d).
      x: input, shape (d,).
      circuit: its numbers.

    Returns:
      Rates r, shape (N,), and r_inh.

    Raises:
      ValueError: as :func:`at_rest`, or an input of another size.

    Example:
      >>> rates, _ = steady_state(jnp.array([[0.0], [2.0]]), jnp.ones(1), Circuit(alpha=1e9))
      >>> rates - 1  # the baseline
      Array([-1.,  1.], dtype=float32)
    """
    check_circuit(circuit)
    check_weights(weights, x)
    drive = weights @ x
    inhibition = jnp.mean(drive) / (1 + circuit.alpha)
    return drive - circuit.alpha * inhibition + circuit.baseline, inhibition


def euler_step(
    state: CircuitState,
    initial: Float[Array, "N d"],
    x: Float[Array, "d"],
    learning_rate: Float[Array, ""] | float,
    plastic: Bool[Array, ""] | bool,
    *,
    gamma: Float[Array, ""] | float,
    circuit: Circuit,
) -> CircuitState:
    """One step of Euler's method for the rates, then one of plasticity from the new rates.

    Args:
      state: before the step.
      initial: weights that gamma pulls towards, shape (N, d).
      x: input, shape (d,).
      learning_rate: of this step; at 0, momentum gathers but weights stay.
      plastic: whether weights and momentum change at all.
      gamma: the pull.
      circuit: its numbers.

    Returns:
      The state after it.

    Example:
      >>> circuit, weights = Circuit(), jnp.array([[0.0], [2.0]])
      >>> step = euler_step(at_rest(weights, circuit), weights, jnp.ones(1), 0.1, True,
      ...                   gamma=0.0, circuit=circuit)
      >>> step.rates, step.inhibition
      (Array([1.       , 1.0666667], dtype=float32), Array(0., dtype=float32))
    """
    speed = circuit.dt / circuit.tau
    drive = state.weights @ x - circuit.alpha * state.inhibition + circuit.baseline
    rates = state.rates + speed * (drive - state.rates)
    excitation = jnp.mean(state.rates) - circuit.baseline
    inhibition = state.inhibition + speed * (excitation - state.inhibition)
    gradient = jnp.outer(rates - circuit.baseline, x) + gamma * (state.weights - initial)
    velocity = jnp.where(plastic, circuit.momentum * state.velocity + gradient, state.velocity)
    weights = jnp.where(plastic, state.weights - learning_rate * velocity, state.weights)
    return CircuitState(weights, velocity, rates, inhibition)


def present(
    state: CircuitState,
    initial: Float[Array, "N d"],
    x: Float[Array, "d"],
    learning_rates: Float[Array, "steps"],
    plastic: Bool[Array | np.ndarray, "steps"],
    *,
    gamma: Float[Array, ""] | float,
    circuit: Circuit,
) -> CircuitState:
    """Presents one input, step by step.

    Args:
      state: before the presentation; rates go on from what the last input left.
      initial: weights that gamma pulls towards, shape (N, d).
      x: input, shape (d,).
      learning_rates: of each step, shape (steps,).
      plastic: whether weights change in each step, shape (steps,).
      gamma: the pull.
      circuit: its numbers.

    Returns:
      The state after it.

    Raises:
      ValueError: gamma or the circuit's numbers are out of range; shapes that do not agree.

    Example:
      >>> circuit, weights = Circuit(), jnp.array([[0.0], [2.0]])
      >>> rates, plastic = jnp.zeros(circuit.steps), np.ones(circuit.steps, bool)
      >>> end = present(at_rest(weights, circuit), weights, jnp.ones(1), rates, plastic,
      ...               gamma=0.0, circuit=circuit)
      >>> steady, _ = steady_state(weights, jnp.ones(1), circuit)
      >>> bool(jnp.allclose(end.rates, steady, atol=0.02))
      True
    """
    check_circuit(circuit)
    check_at_least("gamma", gamma)
    check_weights(state.weights, x)

    def step(state: CircuitState, now: tuple[jax.Array, jax.Array]) -> tuple[CircuitState, None]:
        return euler_step(state, initial, x, *now, gamma=gamma, circuit=circuit), None

    return lax.scan(step, state, (learning_rates, jnp.asarray(plastic)))[0]
