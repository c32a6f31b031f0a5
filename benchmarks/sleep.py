"""Time of a sleep phase of LC ResNet-20: the composed map against the rule step by step.

Both take turns within one process, from the same weights and noise. Instant sharing and, for
scale, a training step are what a phase is to be compared with: see ``benchmarks.lc_step``. Run
``python -m benchmarks.sleep --help``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from jaxws.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()  # as train.py does

import jax
import jax.numpy as jnp

from benchmarks import machine
from jaxws import LocalConv, layer_windows, share_weights, weight_snr
from jaxws.dynamics import Rule, sleep, sleep_phase
from jaxws.models import resnet_cifar

Program = Callable[[jax.Array, Any], Any]


def step_by_step(key: jax.Array, deviation: jax.Array, tiling: Any, rule: Rule) -> jax.Array:
    """In place of the composed map."""
    return sleep._iterate(key, deviation, tiling.entries, rule)


def programs(rule: Rule, windows: Any, params: Any) -> dict[str, tuple[Program, float]]:
    """Compiles what is to be timed.

    Args:
      rule: of the phase.
      windows: of the network's layers.
      params: its parameters.

    Returns:
      By name a function of key and parameters, and the seconds it took to compile.
    """
    phase = partial(sleep_phase, rule=rule, windows=windows)
    compiled: dict[str, tuple[Program, float]] = {}

    def add(name: str, function: Program) -> None:
        begin = time.perf_counter()
        program = jax.jit(function).lower(jax.random.key(0), params).compile()
        compiled[name] = program, time.perf_counter() - begin

    add("composed", phase)
    add("instant", lambda key, params: share_weights(params))
    jax.clear_caches()  # of what has been traced with the function that is replaced now
    with patch.object(sleep, "_evolve", step_by_step):
        add("step by step", phase)
    jax.clear_caches()
    return compiled


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a table in Markdown.

    Args:
      arguments: of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sleep", description=__doc__)
    parser.add_argument("--depth", type=int, default=20, help="of the ResNet")
    parser.add_argument("--width", type=int, default=16, help="features of its first stage")
    parser.add_argument("--image", type=int, default=32, help="side of the images")
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--patterns", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where to write the results, JSON")
    options = parser.parse_args(arguments)
    model = resnet_cifar(options.depth, width=options.width, conv=LocalConv)
    image = (options.image, options.image, 3)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *image)))
    params, rule = variables["params"], Rule(options.iterations, options.patterns)
    compiled = programs(rule, layer_windows(model, image), params)
    samples: dict[str, list[float]] = {name: [] for name in compiled}
    results: dict[str, Any] = {}
    for index in range(options.rounds + 1):
        for name, (program, _) in compiled.items():
            begin = time.perf_counter()
            results[name] = jax.block_until_ready(program(jax.random.key(1), params))
            if index:  # the first one warms up
                samples[name].append(time.perf_counter() - begin)
    least = {name: float(min(weight_snr(shared).values())) for name, shared in results.items()}
    medians = {name: statistics.median(seconds) for name, seconds in samples.items()}
    print("| | s, median | / composed | least SNR of a layer | compilation (s) |")
    print("|---|---|---|---|---|")
    for name, median in medians.items():
        print(
            f"| {name} | {median:.3g} | {median / medians['composed']:.3g} | {least[name]:.2g} |"
            f" {compiled[name][1]:.1f} |"
        )
    if options.out:
        report = {"benchmark": "sleep", **machine.metadata(), "rule": rule._asdict()}
        report |= {"seconds": samples, "median_seconds": medians, "least_snr": least}
        machine.write_report(options.out, report)


if __name__ == "__main__":
    main()
