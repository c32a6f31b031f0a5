"""The circuit: against loops, its steady state, rule (13), and its projected form; float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxws.dynamics import (
    Circuit,
    Plasticity,
    at_rest,
    circuit_learning_rates,
    hebbian_update,
    plastic_steps,
    present,
    present_projected,
    presentation_maps,
    steady_state,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")
NEURONS, SIZE, PRESENTATIONS = 6, 4, 3


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def problem(seed, presentations=PRESENTATIONS):
    rng = np.random.default_rng(seed)
    weights = jnp.asarray(rng.normal(1, 1, (NEURONS, SIZE)))
    return weights, jnp.asarray(rng.normal(1, 1, (presentations, SIZE)))


def loops(weights, inputs, rates, plastic, gamma, circuit):
    """Eq. (8) with scalars only."""
    w, v = weights.copy(), np.zeros_like(weights)
    r, inhibition, b = [circuit.baseline] * len(w), 0.0, circuit.baseline
    for x, presentation_rates in zip(inputs, rates, strict=True):
        for rate, changes in zip(presentation_rates, plastic, strict=True):
            drive = [sum(w[i, j] * x[j] for j in range(len(x))) for i in range(len(w))]
            slopes = [-r[i] + drive[i] - circuit.alpha * inhibition + b for i in range(len(w))]
            slope = -inhibition + sum(r) / len(w) - b
            r = [r[i] + circuit.dt / circuit.tau * slopes[i] for i in range(len(w))]
            inhibition += circuit.dt / circuit.tau * slope
            if changes:
                for i in range(len(w)):
                    gradient = (r[i] - b) * x + gamma * (w[i] - weights[i])
                    v[i] = circuit.momentum * v[i] + gradient
                    w[i] = w[i] - rate * v[i]
    return w, v, np.array(r), inhibition


@functools.partial(jax.jit, static_argnames=("steps", "projected"))
def run(weights, inputs, rates, plastic, gamma, alpha, tau, momentum, steps, projected):
    """All presentations, either way; the circuit's numbers are traced, so this compiles once."""
    circuit = Circuit(2.0, 30.0, 1.0, 1.0, float(steps), 0.5)._replace(alpha=alpha, tau=tau)
    state = at_rest(weights, circuit)

    def step_by_step(state, now):
        x, rate, _ = now
        return present(state, weights, x, rate, plastic, gamma=gamma, circuit=circuit), None

    def at_once(state, now):
        x, _, maps = now
        return present_projected(state, weights, x, maps, circuit=circuit), None

    norms = jnp.sum(jnp.square(inputs), axis=1)
    maps = presentation_maps(norms, rates.T, plastic, gamma=gamma, circuit=circuit)
    return jax.lax.scan(at_once if projected else step_by_step, state, (inputs, rates, maps))[0]


PLASTICITIES = st.builds(
    Plasticity,
    scale=st.floats(1e-5, 2e-3),
    onset=st.integers(0, 3),
    counter=st.sampled_from(("step", "presentation", "step_of_presentation")),
    moment=st.sampled_from(("every_step", "presentation_end")),
)


@given(
    st.integers(0, 10**6), PLASTICITIES, st.floats(0, 1), st.floats(0, 20), st.floats(5, 60),
)  # fmt: skip
@settings(max_examples=30)
def test_projected_form_is_exact(seed, plasticity, gamma, alpha, tau):
    """Equal to the steps, for any numbers, all that the state holds, from both counters."""
    weights, inputs = problem(seed)
    rates = jnp.asarray(circuit_learning_rates(np.arange(PRESENTATIONS), 40, plasticity))
    plastic = jnp.asarray(plastic_steps(40, plasticity))
    arguments = (weights, inputs, rates, plastic, gamma, alpha, tau, 0.5)
    steps = run(*arguments, steps=40, projected=False)
    once = run(*arguments, steps=40, projected=True)
    for a, b in zip(steps, once, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * float(jnp.max(jnp.abs(a))) + 1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.95])
@pytest.mark.parametrize("moment", ["every_step", "presentation_end"])
def test_both_forms_are_those_of_loops(momentum, moment):
    weights, inputs = problem(0)
    circuit = Circuit(alpha=10.0, tau=20.0, baseline=2.0, dt=2.0, duration=60.0, momentum=momentum)
    plasticity = Plasticity(scale=1e-3, onset=1, counter="presentation", moment=moment)
    rates = circuit_learning_rates(np.arange(PRESENTATIONS), circuit.steps, plasticity)
    plastic = plastic_steps(circuit.steps, plasticity)
    expected = loops(np.asarray(weights), np.asarray(inputs), rates, plastic, 0.2, circuit)
    assert np.abs(expected[0] - weights).max() > 1e-3  # they have learned something
    state, projected = at_rest(weights, circuit), at_rest(weights, circuit)
    for x, rate in zip(inputs, jnp.asarray(rates), strict=True):
        state = present(state, weights, x, rate, plastic, gamma=0.2, circuit=circuit)
        maps = presentation_maps(x @ x, rate, plastic, gamma=0.2, circuit=circuit)
        projected = present_projected(projected, weights, x, maps, circuit=circuit)
    for a, b, c in zip(expected, state, projected, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(c, a, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 10.0])
def test_circuit_settles_in_its_steady_state(alpha):
    weights, inputs = problem(1)
    circuit = Circuit(alpha=alpha, tau=30.0, duration=1500.0)
    state = at_rest(weights, circuit)
    still = (jnp.zeros(circuit.steps), np.ones(circuit.steps, bool))
    state = present(state, weights, inputs[0], *still, gamma=0.1, circuit=circuit)
    rates, inhibition = steady_state(weights, inputs[0], circuit)
    np.testing.assert_allclose(state.rates, rates, rtol=1e-10)
    np.testing.assert_allclose(state.inhibition, inhibition, rtol=1e-10)
    drive = np.asarray(weights @ inputs[0])
    printed = drive - alpha / (1 + alpha) * drive.mean() + circuit.baseline
    np.testing.assert_allclose(rates, printed, rtol=1e-12)
    hebbian = -jnp.outer(rates - circuit.baseline, inputs[0])
    np.testing.assert_allclose(
        hebbian, hebbian_update(weights, weights, inputs[0], 0.1, alpha=alpha), atol=1e-12
    )


def test_strong_inhibition_is_rule_13():
    """The difference falls as 1 / (1 + alpha)."""
    weights, inputs = problem(2)
    rule = hebbian_update(weights, weights, inputs[0], 0.0)
    distances = []
    for alpha in (10.0, 1e3, 1e5, 1e7):
        rates, _ = steady_state(weights, inputs[0], Circuit(alpha=alpha))
        hebbian = -jnp.outer(rates - 1, inputs[0])
        distances.append(float(jnp.max(jnp.abs(hebbian - rule)) * (1 + alpha)))
    np.testing.assert_allclose(distances, distances[0], rtol=1e-6)


def test_counters():
    """k as the text reads, as milliseconds, and within a presentation."""
    shown = np.arange(2, 4)
    for counter, k in {
        "presentation": [[2, 2], [3, 3]],
        "step": [[4, 5], [6, 7]],
        "step_of_presentation": [[0, 1], [0, 1]],
    }.items():
        rates = circuit_learning_rates(shown, 2, Plasticity(3e-4, 1, counter))
        expected = [[3e-4 / (1 + n / 2) ** 0.5 * (n >= 1) for n in row] for row in k]
        np.testing.assert_allclose(rates, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("circuit", "message"),
    [
        (Circuit(alpha=-1.0), r"alpha=-1\.0: expected at least 0"),
        (Circuit(tau=0.0), r"tau=0\.0: expected a number above 0"),
        (Circuit(momentum=1.0), r"momentum=1\.0: expected at least 0 and below 1"),
        (Circuit(dt=0.7), r"dt=0\.7: expected a whole number of steps"),
    ],
)
def test_a_circuit_that_makes_no_sense(circuit, message):
    with pytest.raises(ValueError, match=message):
        at_rest(jnp.ones((2, 2)), circuit)


@pytest.mark.usefixtures("unchecked_types")
def test_other_mistakes():
    circuit, weights = Circuit(), jnp.ones((2, 2))
    state, steps = at_rest(weights, circuit), (jnp.zeros(150), np.ones(150, bool))
    with pytest.raises(ValueError, match=r"gamma=-1: expected at least 0"):
        present(state, weights, weights[0], *steps, gamma=-1, circuit=circuit)
    with pytest.raises(ValueError, match=r"gamma=-1: expected at least 0"):
        presentation_maps(jnp.ones(3), steps[0], steps[1], gamma=-1, circuit=circuit)
    with pytest.raises(ValueError, match=r"the last axes to agree"):
        steady_state(weights, jnp.ones(3), circuit)
    with pytest.raises(ValueError, match=r"counter='hour': expected one of"):
        circuit_learning_rates(np.arange(2), 3, Plasticity(counter="hour"))
    with pytest.raises(ValueError, match=r"moment='never': expected one of"):
        plastic_steps(3, Plasticity(moment="never"))


@pytest.mark.slow
def test_benchmark_compares_the_same_thing():
    """It stops where a program computes something else."""
    from benchmarks.dynamics import measure

    with jax.enable_x64(False), jax.numpy_rank_promotion("allow"):
        records = measure(2, {"projected": 4, "step by step": 4, "NumPy loop": 4}, rounds=1)
    assert all(record["median_seconds"] > 0 for record in records.values())
