"""Time and memory of a whole training step of an LC ResNet, beside peers.

Run ``python -m benchmarks.lc_step --help``; benchmarks/README.md says what is measured.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.problem import Problem, floor_seconds, step_cost
from benchmarks.step_report import Report, table
from jaxws.huge_pages import with_huge_pages

Record = dict[str, Any]

REFERENCE = "ours"
LOCAL = (
    *("ours", "ours_bf16", "unpooled", "slices", "conv_local"),
    *("torch", "torch_published", "torch_bf16", "torch_compile", "torch_compile_bf16"),
)
CONVOLUTIONAL = ("conv", "conv_bf16", "conv_flax", "torch_conv", "torch_conv_bf16")
# Peers too slow or too large for the batch of the others meet ours again at one of their own.
SLOW = ("conv_local", "torch_published")
DEFAULT = ("ours", "slices", "torch", "torch_published", "conv_local", "conv", "torch_conv")
# What rounding may change in the first loss, relative: float32, or less on a device or by choice.
TOLERANCE = {"float32": 1e-4, "reduced": 1e-2}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--batch", type=int, default=512, help="images per step")
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each peer")
    parser.add_argument("--slow-batch", type=int, default=128, help=f"the same for {SLOW}")
    parser.add_argument("--slow-rounds", type=int, default=3, help=f"the same for {SLOW}")
    parser.add_argument("--peers", default=",".join(DEFAULT), help=f"of {(*LOCAL, *CONVOLUTIONAL)}")
    parser.add_argument("--depth", type=int, default=20, help="of the ResNet; 2: no blocks")
    parser.add_argument("--width", type=int, default=16, help="features of its first stage")
    parser.add_argument("--image", type=int, default=32, help="side of the images")
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto")
    parser.add_argument("--pause", type=float, default=0.2, help="seconds before each timed step")
    parser.add_argument(
        "--rates-shrink", type=int, default=1, help="divides the matrices that give the rates"
    )
    parser.add_argument("--out", type=Path, help="where to write the results, JSON")
    options = parser.parse_args(arguments)
    if min(options.batch, options.slow_batch, options.rounds, options.slow_rounds) < 1:
        parser.error("batches and rounds are positive numbers.")
    options.peers = list(dict.fromkeys([REFERENCE, *options.peers.split(",")]))
    if unknown := set(options.peers) - {*LOCAL, *CONVOLUTIONAL}:
        parser.error(f"unknown peers {sorted(unknown)}: choose from {(*LOCAL, *CONVOLUTIONAL)}.")
    return options


def groups(options: argparse.Namespace) -> list[tuple[int, int, list[str]]]:
    """Which peers run together: (batch, rounds, names), the reference in each."""
    slow = [name for name in options.peers if name in SLOW]
    if not slow or options.slow_batch >= options.batch:
        return [(options.batch, options.rounds, options.peers)]
    together = [(options.slow_batch, options.slow_rounds, [REFERENCE, *slow])]
    fast = [name for name in options.peers if name not in SLOW]
    if fast != [REFERENCE]:
        together.insert(0, (options.batch, options.rounds, fast))
    return together


def run_group(
    problem: Problem,
    rounds: int,
    names: Sequence[str],
    options: Any,
    kept: Callable[[Record], None],
) -> Record:
    """Measures peers at one batch.

    Args:
      problem: the step.
      rounds: timed steps of each.
      names: of the peers, the reference first.
      options: of the command line.
      kept: is given the group after each round, as far as it has been measured.

    Returns:
      One of the ``groups`` of the results.
    """
    environment = {
        **with_huge_pages(os.environ),  # as train.py sets them, for every peer
        "OMP_NUM_THREADS": str(problem.threads),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several processes on one device
        **({"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""} if options.device == "cpu" else {}),
    }
    facts: dict[str, Record] = {}

    def measured(records: dict[str, Record]) -> Record:
        peers = {name: facts[name] | records.get(name, {}) for name in facts}
        harness.add_ratios(peers, REFERENCE)
        return {"batch": problem.batch, "rounds": rounds, "rates": {}, "peers": peers}

    ready: list[harness.Process] = []
    opened: list[harness.Process] = []
    try:
        for name in names:
            (process,) = harness.start([name], problem._asdict(), environment)
            opened.append(process)
            say(f"batch {problem.batch}: {name} compiles and warms up")
            try:
                facts[name] = process.read()
                check(name, facts)
                ready.append(process)
            except harness.PeerError as error:
                facts.setdefault(name, {})["error"] = str(error)
                process.close()
                say(f"{name} {error}")
        say(f"batch {problem.batch}: {rounds} rounds")
        records = harness.take_turns(
            ready, rounds, options.pause, lambda records: kept(measured(records))
        )
        rates = {}
        for process in ready:
            if "error" not in records[process.name]:
                rates[process.name] = process.ask(f"rates {options.rates_shrink}")
    finally:
        for process in opened:
            process.close()
    group = measured(records) | {"rates": rates}
    add_floor(group, problem)
    return group


def check(name: str, facts: dict[str, Record]) -> None:
    """Compares a peer's first losses with those of the first peer of its kind of network.

    Raises:
      PeerError: they differ, or the peer runs on another kind of device.
    """
    mine, conv = facts[name], name in CONVOLUTIONAL
    for other, theirs in facts.items():
        if other == name or (other in CONVOLUTIONAL) != conv or "error" in theirs:
            continue
        if mine["device"]["backend"] != theirs["device"]["backend"]:
            raise harness.PeerError(
                f"runs on a {mine['device']['backend']}, {other} on a"
                f" {theirs['device']['backend']}: use --device=cpu, or install its GPU version."
            )
        exact = mine["device"]["backend"] == "cpu" and "bf16" not in name + other
        rtol = TOLERANCE["float32" if exact else "reduced"]
        if message := harness.disagreement(mine["losses"], theirs["losses"], rtol):
            raise harness.PeerError(f"{message} as of {other}")
        return


def add_floor(group: Record, problem: Problem) -> None:
    """Adds the floor, at the best rates that any peer saw, and each LC peer's share of them."""
    rates = group["rates"].values()
    if not rates:
        return
    cost = step_cost(problem)
    copy = max(rate["bytes"] for rate in rates)
    best: dict[str, float] = {}
    for rate in rates:
        # Where half precision is emulated, the machine still has its float32.
        known = (best.get(dtype, 0.0) for dtype in (rate["dtype"], "float32"))
        best[rate["dtype"]] = max(rate["flops"], *known)
    group["floor"] = {
        dtype: cost
        | {"rates": {"flops": flops, "bytes": copy}}
        | floor_seconds(cost, {"flops": flops, "bytes": copy})
        for dtype, flops in best.items()
    }
    for name, record in group["peers"].items():
        if "error" in record or name in CONVOLUTIONAL:
            continue
        floor = group["floor"][group["rates"][name]["dtype"]]
        for key in ("flops", "bytes"):
            record[f"share_of_{key}_rate"] = floor[f"{key}_seconds"] / record["median_seconds"]


def say(text: str) -> None:
    """Tells on standard error what goes on."""
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 1 if a peer failed, 130 if it was interrupted."""
    options = parse(arguments)
    threads = os.cpu_count() or 1
    problem = Problem(0, options.depth, options.width, options.image, threads=threads)
    report = Report(options.out, "lc_step", REFERENCE, problem)
    try:
        for batch, rounds, names in groups(options):
            of_batch = problem._replace(batch=batch)
            group = run_group(of_batch, rounds, names, options, report.keep_unfinished)
            report.add(group)
            print(table(group), flush=True)
    except KeyboardInterrupt:
        say(f"interrupted; {report.place}")
        return 130
    report.end()
    return int(report.has_errors)


if __name__ == "__main__":
    sys.exit(main())
