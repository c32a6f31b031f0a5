"""What a training step costs beyond training: norm, SNR, skipping, loss scale.

Variants of one step take turns, one step of each per round. They differ in which results of
:func:`jaxws.training.step` are asked for: what nobody asks for, the compiler leaves out. Run
``python -m benchmarks.bookkeeping --help``.
"""

from __future__ import annotations

import argparse
import dataclasses
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

from benchmarks import machine
from benchmarks import problem as problems
from benchmarks.problem import Problem
from jaxws import LocalConv
from jaxws.config import base_config
from jaxws.data.batch import Batch
from jaxws.models import ResNet
from jaxws.training.loss_scale import initial_loss_scale
from jaxws.training.optimizers import make_optimizer
from jaxws.training.state import TrainState, create_train_state
from jaxws.training.step import StepInfo, train_step
from jaxws.training.weight_sharing import Sharing

Record = dict[str, Any]

# Which of a step's results are asked for, and whether it may be skipped.
VARIANTS: dict[str, tuple[Callable[[StepInfo], Any], bool]] = {
    "bare": (lambda info: (), False),
    "norm": (lambda info: info.grad_norm, False),
    "snr": (lambda info: info.neg_log_snr, False),
    "all": (lambda info: info, False),
    "all, skipping": (lambda info: info, True),
}


class Step:
    """One variant, compiled, and its state.

    Args:
      name: one of ``VARIANTS``.
      dtype: of activations; float16 has a loss scale in all variants but ``bare``.
      problem: the network and the batch.
      every: n of ws(n).
    """

    def __init__(self, name: str, dtype: str, problem: Problem, every: int):
        select, skip = VARIANTS[name]
        model = ResNet(
            problems.stage_sizes(problem.depth),
            problem.width,
            problem.classes,
            LocalConv,
            dtype=jnp.dtype(dtype),
        )
        optimizer = make_optimizer(base_config(), steps_per_epoch=100)
        image = (problem.image, problem.image, 3)
        create = partial(create_train_state, model=model, optimizer=optimizer, image_shape=image)
        images, labels = problems.make_batch(problem)
        self.batch = Batch(jnp.asarray(images, dtype), jnp.asarray(labels), mask=None)
        state = jax.jit(create)(jax.random.key(0))
        scale = () if name == "bare" else initial_loss_scale(dtype)
        self.state = dataclasses.replace(state, loss_scale=scale)
        sharing = Sharing(every, pools="grid", steps_per_epoch=100)
        step = partial(
            train_step, model=model, optimizer=optimizer, sharing=sharing, skip_nonfinite=skip
        )

        @partial(jax.jit, donate_argnums=0)
        def run(state: TrainState, batch: Batch) -> Any:
            state, metrics, info = step(state, batch)
            return state, metrics, select(info)

        self._run = run

    def seconds(self) -> float:
        """Time of one step, to its end."""
        begin = time.perf_counter()
        self.state, *rest = self._run(self.state, self.batch)
        jax.block_until_ready((self.state, rest))
        return time.perf_counter() - begin


def measure(problem: Problem, dtype: str, names: Sequence[str], every: int, rounds: int) -> Record:
    """Times variants in turn.

    Args:
      problem: the network and the batch.
      dtype: of activations.
      names: of ``VARIANTS``, ``bare`` first.
      every: n of ws(n).
      rounds: number of samples of each.

    Returns:
      By variant ``seconds``, ``median_seconds``, and ``overhead``, the median over rounds of what
      it takes beyond ``bare`` in that round, relative to it.
    """
    steps = {name: Step(name, dtype, problem, every) for name in names}
    samples: dict[str, list[float]] = {name: [] for name in names}
    for step in steps.values():
        for _ in range(2):
            step.seconds()
    for index in range(rounds):
        for name in names if index % 2 == 0 else reversed(names):
            samples[name].append(steps[name].seconds())
    bare = samples[names[0]]
    return {
        name: {
            "seconds": seconds,
            "median_seconds": statistics.median(seconds),
            "overhead": statistics.median(a / b for a, b in zip(seconds, bare, strict=True)) - 1,
        }
        for name, seconds in samples.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a table in Markdown per dtype.

    Args:
      arguments: of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bookkeeping", description=__doc__)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--depth", type=int, default=20, help="of the ResNet; 2: no blocks")
    parser.add_argument("--width", type=int, default=16, help="features of its first stage")
    parser.add_argument("--image", type=int, default=32, help="side of the images")
    parser.add_argument("--every", type=int, default=1, help="n of ws(n); 0: no sharing")
    parser.add_argument("--dtype", nargs="+", default=["float32"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, help="where to write the results, JSON")
    options = parser.parse_args(arguments)
    names = list(dict.fromkeys(["bare", *options.variants]))
    problem = Problem(options.batch, options.depth, options.width, options.image)
    results = {}
    for dtype in options.dtype:
        results[dtype] = measure(problem, dtype, names, options.every, options.rounds)
        print(f"{dtype}, batch {options.batch}, ws({options.every}), {options.rounds} rounds")
        print("| step | ms, median (least) | beyond bare |\n|---|---|---|")
        for name, record in results[dtype].items():
            median, least = record["median_seconds"], min(record["seconds"])
            print(
                f"| {name} | {1000 * median:.1f} ({1000 * least:.1f}) |"
                f" {100 * record['overhead']:+.1f} % |",
                flush=True,
            )
    if options.out:
        report = {"benchmark": "bookkeeping", **machine.metadata()}
        report |= {"problem": problem._asdict(), "every": options.every, "results": results}
        machine.write_report(options.out, report)


if __name__ == "__main__":
    main()
