"""The circuit, faster and exact: within a presentation only projections on the input matter.

While x is held, the rates depend on the weights through p_i = w_i . x alone, and the weights change
along x and towards their start alone. With u = w - w_init and the velocity v::

    u_t = a_t u_0 + b_t v_0 + s_t x,    v_t = c_t u_0 + d_t v_0 + z_t x

where a..d are numbers common to all neurons, and s, z and r - b of a neuron are linear in five
numbers of it: u_0 . x, v_0 . x, w_init . x, r_0 - b and the inhibition. Deviations from the mean
over neurons do not feel inhibition and obey one small linear map, the mean obeys another. Both
depend on |x|^2 and the learning rates only: not on the weights, so they are computed for many
presentations at once, and weights are read and written once per presentation. The baseline b
drops out.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxws.dynamics.checks import check_at_least, check_weights
from jaxws.dynamics.circuit import Circuit, CircuitState, check_circuit


class Maps(NamedTuple):
    """What presentations do, whatever the weights; leading axes (...) are those of ``norms``.

    Attributes:
      weights: a - 1, b, c, d of the module's docstring, shape (..., 4); a is so near 1 that in
        float32 a step's change would be lost in it.
      deviation: shape (..., 3, 4): from (u.x, v.x, w_init.x, r - b) to (s, z, r - b).
      mean: shape (..., 4, 5): the same with the inhibition at the end of both.
    """

    weights: Float[Array, "*inputs 4"]
    deviation: Float[Array, "*inputs 3 4"]
    mean: Float[Array, "*inputs 4 5"]


def presentation_maps(
    norms: Float[Array, "*inputs"],
    learning_rates: Float[Array | np.ndarray, "steps *_"],
    plastic: Bool[Array | np.ndarray, "steps"],
    *,
    gamma: Float[Array, "..."] | float,
    circuit: Circuit,
) -> Maps:
    """Composes the steps of presentations, for all of them at once.

    Args:
      norms: ``|x|^2`` of each input, shape (...).
      learning_rates: of each step, shape (steps, ...), or one that broadcasts to it.
      plastic: whether weights change in each step, shape (steps,).
      gamma: the pull towards the start; a number or of shape (...).
      circuit: its numbers.

    Returns:
      Their maps, in the dtype of ``norms``.

    Raises:
      ValueError: gamma or the circuit's numbers are out of range.

    Example:
      >>> maps = presentation_maps(jnp.ones(7), jnp.zeros((150, 7)), np.ones(150, bool),
      ...                          gamma=0.1, circuit=Circuit())
      >>> maps.weights.shape, maps.deviation.shape, maps.mean.shape
      ((7, 4), (7, 3, 4), (7, 4, 5))
    """
    check_circuit(circuit)
    check_at_least("gamma", gamma)
    gamma = jnp.broadcast_to(jnp.asarray(gamma, norms.dtype), norms.shape)
    zero, one = jnp.zeros_like(norms), jnp.ones_like(norms)
    coefficients = jnp.stack([zero, zero, zero, one])

    def start(rows: int, columns: int) -> jax.Array:
        """Nothing along x yet; rates (and inhibition) are those before."""
        matrix = jnp.zeros((rows, columns), norms.dtype)
        matrix = matrix.at[2:, 3:].set(jnp.eye(rows - 2, dtype=norms.dtype))
        return jnp.broadcast_to(
            matrix.reshape(rows, columns, *[1] * norms.ndim), (rows, columns, *norms.shape)
        )

    def step(
        state: tuple[jax.Array, jax.Array, jax.Array], now: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], None]:
        coefficients, deviation, mean = state
        rate, changes = jnp.broadcast_to(now[0], norms.shape), now[1]
        a, b, c, d = coefficients + jnp.stack([one, zero, zero, zero])
        drive = jnp.stack([a, b, one])
        deviation_next = _step(deviation, drive, norms, gamma, rate, changes, circuit)
        mean_next = _step(mean, drive, norms, gamma, rate, changes, circuit)
        c_next, d_next = circuit.momentum * c + gamma * a, circuit.momentum * d + gamma * b
        less, _, _, _ = coefficients
        moved = jnp.stack([less - rate * c_next, b - rate * d_next, c_next, d_next])
        return (jnp.where(changes, moved, coefficients), deviation_next, mean_next), None

    learning_rates = jnp.asarray(learning_rates, norms.dtype)
    carried = (coefficients, start(3, 4), start(4, 5))
    last = lax.scan(step, carried, (learning_rates, jnp.asarray(plastic)))[0]
    return Maps(
        jnp.moveaxis(last[0], 0, -1),
        jnp.moveaxis(last[1], (0, 1), (-2, -1)),
        jnp.moveaxis(last[2], (0, 1), (-2, -1)),
    )


def _step(
    rows: Float[Array, "rows columns *inputs"],
    drive: Float[Array, "3 *inputs"],
    norms: Float[Array, "*inputs"],
    gamma: Float[Array, "*inputs"],
    rate: Float[Array, "*inputs"],
    changes: Bool[Array, ""],
    circuit: Circuit,
) -> Float[Array, "rows columns *inputs"]:
    """One step of :func:`jaxws.dynamics.circuit.euler_step` for (s, z, r - b[, r_inh])."""
    speed = circuit.dt / circuit.tau
    along, velocity, response = rows[0], rows[1], rows[2]
    inputs = norms[None] * along
    inputs = inputs.at[:3].add(drive)  # w.x = a u.x + b v.x + w_init.x + s |x|^2
    after: list[jax.Array] = []
    if len(rows) == 4:
        inhibition = rows[3]
        inputs = inputs - circuit.alpha * inhibition
        after = [inhibition + speed * (response - inhibition)]
    response = response + speed * (inputs - response)
    moved = circuit.momentum * velocity + response + gamma[None] * along
    velocity_next = jnp.where(changes, moved, velocity)
    along_next = jnp.where(changes, along - rate[None] * moved, along)
    return jnp.stack([along_next, velocity_next, response, *after])


def present_projected(
    state: CircuitState,
    initial: Float[Array, "N d"],
    x: Float[Array, "d"],
    maps: Maps,
    *,
    circuit: Circuit,
) -> CircuitState:
    """Presents one input; the same result as :func:`jaxws.dynamics.circuit.present`.

    Args:
      state: before the presentation.
      initial: weights that gamma pulls towards, shape (N, d).
      x: input, shape (d,).
      maps: of this input, without leading axes.
      circuit: its numbers.

    Returns:
      The state after it.

    Raises:
      ValueError: shapes that do not agree.

    Example:
      >>> from jaxws.dynamics import at_rest
      >>> circuit, weights = Circuit(), jnp.array([[0.0, 1.0], [2.0, 1.0]])
      >>> x = jnp.array([1.0, 0.5])
      >>> maps = presentation_maps(x @ x, jnp.full(150, 1e-3), np.ones(150, bool),
      ...                          gamma=0.0, circuit=circuit)
      >>> end = present_projected(at_rest(weights, circuit), weights, x, maps, circuit=circuit)
      >>> bool(end.weights[0, 0] > 0), bool(end.weights[1, 0] < 2)
      (True, True)
    """
    check_weights(state.weights, x)
    pulled = state.weights - initial
    neurons = jnp.stack(
        [pulled @ x, state.velocity @ x, initial @ x, state.rates - circuit.baseline]
    )
    mean = jnp.mean(neurons, axis=1)
    deviation = maps.deviation @ (neurons - mean[:, None])
    common = maps.mean @ jnp.append(mean, state.inhibition)
    along, velocity_along, response = deviation + common[:3, None]
    less, b, c, d = maps.weights
    change = less * pulled + b * state.velocity + jnp.outer(along, x)
    velocity = c * pulled + d * state.velocity + jnp.outer(velocity_along, x)
    return CircuitState(state.weights + change, velocity, response + circuit.baseline, common[3])
