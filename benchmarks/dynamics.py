"""Time of the circuit of Figs 4B and 5B: projected, step by step, and as a loop in NumPy.

All compute the same: circuits of 100 neurons with the defaults of A.5, three gammas, ten runs. The
JAX programs take all of them at once; the loop, one circuit after the other, is timed on a few
presentations. They take turns within one process. Run ``python -m benchmarks.dynamics --help``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks import machine
from jaxws.dynamics import (
    Circuit,
    Plasticity,
    at_rest,
    circuit_learning_rates,
    plastic_steps,
    present,
)
from jaxws.dynamics.convergence import present_all

CIRCUIT, PLASTICITY = Circuit(), Plasticity()
GAMMAS = (0.1, 0.01, 0.001)
RUNS, NEURONS = 10, 100
PLASTIC = plastic_steps(CIRCUIT.steps, PLASTICITY)


def numpy_loop(
    weights: np.ndarray, inputs: np.ndarray, rates: np.ndarray, gamma: float
) -> np.ndarray:
    """One circuit in NumPy, a few lines per step of Euler's method.

    Args:
      weights: shape (N, d).
      inputs: shape (presentations, d).
      rates: shape (presentations, steps).
      gamma: the pull.

    Returns:
      Weights in the end.
    """
    speed = CIRCUIT.dt / CIRCUIT.tau
    initial, velocity = weights.copy(), np.zeros_like(weights)
    excited, inhibition = np.full(len(weights), CIRCUIT.baseline, weights.dtype), 0.0
    for x, presentation in zip(inputs, rates, strict=True):
        for rate in presentation:
            drive = weights @ x - CIRCUIT.alpha * inhibition + CIRCUIT.baseline
            mean = excited.mean() - CIRCUIT.baseline
            excited = excited + speed * (drive - excited)
            inhibition = inhibition + speed * (mean - inhibition)
            gradient = np.outer(excited - CIRCUIT.baseline, x) + gamma * (weights - initial)
            velocity = CIRCUIT.momentum * velocity + gradient
            weights = weights - rate * velocity
    return weights


@jax.jit
def step_by_step(
    initial: jax.Array, inputs: jax.Array, rates: jax.Array, gammas: jax.Array
) -> jax.Array:
    """All circuits, every step of Euler's method on the weights."""

    def one(initial: jax.Array, inputs: jax.Array, gamma: jax.Array) -> jax.Array:
        def presentation(state: Any, now: Any) -> tuple[Any, None]:
            x, rate = now
            return present(state, initial, x, rate, PLASTIC, gamma=gamma, circuit=CIRCUIT), None

        return lax.scan(presentation, at_rest(initial, CIRCUIT), (inputs, rates))[0].weights

    runs = jax.vmap(one, in_axes=(0, 0, None))
    return jax.vmap(runs, in_axes=(None, None, 0))(initial, inputs, gammas)


def projected(
    initial: jax.Array, inputs: jax.Array, rates: jax.Array, gammas: jax.Array
) -> jax.Array:
    """All circuits, as the figures are made."""
    state = jax.vmap(partial(at_rest, circuit=CIRCUIT))(initial)
    state = jax.tree.map(lambda a: jnp.repeat(a[None], len(gammas), axis=0), state)
    every = inputs.shape[1]
    plastic = jnp.asarray(PLASTIC)
    return present_all(state, initial, inputs, rates, plastic, gammas, CIRCUIT, every)[0].weights


def measure(size: int, presentations: dict[str, int], rounds: int) -> dict[str, Any]:
    """Times all three in turns.

    Args:
      size: k.
      presentations: how many each of them is timed on, by name.
      rounds: number of samples.

    Returns:
      By name samples and the median, in seconds per presentation of one circuit, and how far the
      weights are from those of the loop.
    """
    rng = np.random.default_rng(size)
    most = max(presentations.values())
    initial = rng.normal(1, 1, (RUNS, NEURONS, size**2)).astype(np.float32)
    inputs = rng.normal(0, 1, (RUNS, most, size**2)).astype(np.float32)
    rates = circuit_learning_rates(np.arange(most), CIRCUIT.steps, PLASTICITY).astype(np.float32)
    gammas = jnp.asarray(GAMMAS)
    circuits = RUNS * len(GAMMAS)

    def run_jax(program: Callable[..., jax.Array], number: int) -> np.ndarray:
        cut = jnp.asarray(inputs[:, :number]), jnp.asarray(rates[:number])
        return np.asarray(program(jnp.asarray(initial), *cut, gammas))

    def run_numpy(number: int) -> np.ndarray:
        return numpy_loop(initial[0], inputs[0, :number], rates[:number], GAMMAS[0])

    programs: dict[str, tuple[Callable[[int], np.ndarray], int]] = {
        "projected": (partial(run_jax, projected), circuits),
        "step by step": (partial(run_jax, step_by_step), circuits),
        "NumPy loop": (run_numpy, 1),
    }
    few = presentations["NumPy loop"]
    expected = run_numpy(few)
    records: dict[str, Any] = {}
    for name, (program, _) in programs.items():
        found = program(few)
        found = found[0, 0] if found.ndim == 4 else found
        error = float(np.max(np.abs(found - expected)))
        if error > 1e-3:
            raise SystemExit(f"{name} computes something else: weights differ by {error:.2g}")
        program(presentations[name])  # compiles
        records[name] = {"error": error, "seconds": []}
    for index in range(rounds):
        names = list(programs)
        for name in names if index % 2 == 0 else reversed(names):
            program, number = programs[name]
            begin = time.perf_counter()
            program(presentations[name])
            seconds = (time.perf_counter() - begin) / (number * presentations[name])
            records[name]["seconds"].append(seconds)
    for record in records.values():
        record["median_seconds"] = statistics.median(record["seconds"])
    return records


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a table in Markdown.

    Args:
      arguments: of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dynamics", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[3, 6, 9], metavar="K")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--projected", type=int, default=500, help="presentations that are timed")
    parser.add_argument("--steps", type=int, default=10, help="the same, step by step")
    parser.add_argument("--loop", type=int, default=20, help="the same, in the loop")
    parser.add_argument("--out", type=Path, help="where to write the results, JSON")
    options = parser.parse_args(arguments)
    presentations = {
        "projected": options.projected,
        "step by step": options.steps,
        "NumPy loop": options.loop,
    }
    results = {size: measure(size, presentations, options.rounds) for size in options.sizes}
    print("| k | | us per presentation of one circuit, median | / projected |")
    print("|---|---|---|---|")
    for size, records in results.items():
        ours = records["projected"]["median_seconds"]
        for name, record in records.items():
            median = record["median_seconds"]
            print(f"| {size} | {name} | {1e6 * median:.3g} | {median / ours:.3g} |")
    whole = {
        name: sum(records[name]["median_seconds"] for records in results.values())
        * (10_000 * RUNS * len(GAMMAS))
        for name in presentations
    }
    print("\nAll of 4B for these k, extrapolated:")
    for name, seconds in whole.items():
        print(f"  {name}: {seconds:.4g} s")
    if options.out:
        report = {"benchmark": "dynamics", **machine.metadata(), "presentations": presentations}
        report |= {"sizes": results, "extrapolated_seconds": whole}
        machine.write_report(options.out, report)


if __name__ == "__main__":
    main()
