"""AdamW and the moments of pools: one pass over the weights, beside optax and XLA.

The update of a whole network's locally connected weights, and mean and variance of every pool, by
:mod:`jaxws.core.fused_adamw` and by what other optimizers take: ``optimizer.update``,
``optax.apply_updates`` and ``weight_snr``. Both take turns in one process and write over moments.
Rates are of the bytes that have to move: gradient and two moments read, moments written (weights
both, where each position has its own), beside what a copy in place reaches. Run
``python -m benchmarks.optimizer --help``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jaxws.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()  # as train.py does

import jax
import jax.numpy as jnp
import optax

from benchmarks import machine
from benchmarks import problem as problems
from benchmarks.jax_peers import OPTIMIZER, measure_rates
from benchmarks.problem import Problem
from jaxws import weight_snr
from jaxws.core.fused_adamw import is_supported
from jaxws.core.pooled import expand_pools, holds_pooled, pool_kernels
from jaxws.training.fused_update import fused_update
from jaxws.training.state import TrainState

Record = dict[str, Any]
# Passes over the weights: of a state with a filter for each pool, and with one for each position.
PASSES = {"shared": 5, "unshared": 7}


def one_pass(state: TrainState, grads: Any) -> tuple[Any, Any, Any]:
    """What ``train_step`` takes where it can: parameters, state and SNR."""
    updated = fused_update(state, grads, OPTIMIZER.make(), "grid")
    assert updated is not None, "only asked for where there is a kernel"
    return tuple(updated)


def by_optax(state: TrainState, grads: Any) -> tuple[Any, Any, Any]:
    """What it takes otherwise."""
    before = expand_pools(state.params)
    updates, opt_state = OPTIMIZER.make().update(grads, state.opt_state, before)
    params = optax.apply_updates(before, updates)
    snr = weight_snr(params)
    return (pool_kernels(params) if holds_pooled(state.params) else params), opt_state, snr


def has_kernel() -> bool:
    """Whether this machine has one for AdamW; elsewhere there is optax's way alone."""
    return is_supported({"local_kernel": jnp.ones((1, 1, 1, 1, 1, 1))})


def make_update(
    function: Callable[[TrainState, Any], Any], problem: Problem, kind: str
) -> Callable[[], float]:
    """A function that updates a state of its own, and returns the seconds."""
    kernels = {
        layer.name: {
            "local_kernel": jnp.ones(
                (*(layer.positions,) * 2, *(layer.kernel,) * 2, layer.channels, layer.features)
            )
        }
        for layer in problems.layers_of(problem)
    }
    grads = jax.tree.map(lambda w: 1e-3 * w, kernels)
    opt_state = OPTIMIZER.make().init(kernels)
    params = pool_kernels(kernels) if kind == "shared" else kernels

    @partial(jax.jit, donate_argnums=0)
    def run(state: TrainState, grads: Any) -> tuple[TrainState, Any]:
        params, opt_state, snr = function(state, grads)
        return TrainState(state.step, params, {}, opt_state), snr

    state = TrainState(jnp.zeros((), jnp.int32), params, {}, opt_state)

    def seconds() -> float:
        nonlocal state
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(run(state, grads))
        return time.perf_counter() - begin

    return seconds


def measure(problem: Problem, kind: str, rounds: int, copying: float) -> Record:
    """Times both ways in turn.

    Args:
      problem: the network.
      kind: of ``PASSES``.
      rounds: number of samples of each.
      copying: bytes per second of a copy in place.

    Returns:
      By way ``seconds``, ``median_seconds``, ``bytes_per_second`` and ``of_copying``.
    """
    functions = {"one pass": one_pass, "optax": by_optax}
    if not has_kernel():
        del functions["one pass"]
    ways = {name: make_update(function, problem, kind) for name, function in functions.items()}
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for index in range(-2, rounds):  # two to compile and warm up
        for name in list(ways) if index % 2 == 0 else reversed(ways):
            seconds = ways[name]()
            if index >= 0:
                samples[name].append(seconds)
    weights = sum(layer.weights for layer in problems.layers_of(problem))
    size = problems.WEIGHT_BYTES * weights * PASSES[kind]
    records = {}
    for name, seconds_of in samples.items():
        median = statistics.median(seconds_of)
        rate = size / median
        records[name] = {"seconds": seconds_of, "median_seconds": median}
        records[name] |= {"bytes_per_second": rate, "of_copying": rate / copying}
    return records


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a table in Markdown.

    Args:
      arguments: of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.optimizer", description=__doc__)
    parser.add_argument("--depth", type=int, default=20, help="of the ResNet; 2: no blocks")
    parser.add_argument("--width", type=int, default=16, help="features of its first stage")
    parser.add_argument("--image", type=int, default=32, help="side of the images")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, help="where to write the results, JSON")
    options = parser.parse_args(arguments)
    problem = Problem(1, options.depth, options.width, options.image)
    copying = measure_rates(jnp.float32, shrink=1 if options.depth > 2 else 16)["bytes"]
    note = "" if has_kernel() else "; no kernel for AdamW here: optax alone"
    print(f"copy in place: {copying / 1e9:.1f} GB/s; {options.rounds} rounds{note}")
    print("| weights | way | ms | GB/s | of copying |\n|---|---|---|---|---|")
    results = {}
    for kind in PASSES:
        results[kind] = measure(problem, kind, options.rounds, copying)
        for name, record in results[kind].items():
            print(
                f"| {kind} | {name} | {1000 * record['median_seconds']:.1f} |"
                f" {record['bytes_per_second'] / 1e9:.1f} | {record['of_copying']:.0%} |",
                flush=True,
            )
    if options.out:
        report = {"benchmark": "optimizer", **machine.metadata(), "problem": problem._asdict()}
        report |= {"copy_bytes_per_second": copying, "results": results}
        machine.write_report(options.out, report)


if __name__ == "__main__":
    main()
