"""``python -m jaxws check``: does every implementation compute the right numbers here, how fast?

With ``--config``, it lists the parameters of a network instead: trained, frozen, decaying.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxws.commands import check_step
from jaxws.commands.check_parameters import show_parameters
from jaxws.commands.flags import add_config_arguments
from jaxws.core.implementations import dispatch, patches, slices
from jaxws.core.implementations.proof import (
    Problem,
    compiled,
    difference,
    make_problem,
    reference,
    tolerance,
)
from jaxws.core.implementations.spec import Implementation, error_line
from jaxws.core.window import make_window
from jaxws.records.provenance import versions

# No more time than this goes into timing one map.
MOST_MS = 500
DTYPES = ("float32", "bfloat16", "float16", "float64")


class Row(NamedTuple):
    """What is known of one map of one implementation in one dtype.

    Attributes:
      implementation: its name.
      default: whether it is what this device takes where none is named.
      dtype: of image, kernel and result.
      map: one of the three, or '' if none could be tried.
      verdict: 'right', 'wrong', or why it could not be tried.
      difference: the largest, in units of the largest number of the result.
      ms: the median time of a call.
    """

    implementation: str
    default: bool
    dtype: str
    map: str
    verdict: str
    difference: float | None = None
    ms: float | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--size", type=int, default=32, help="rows and columns of the images")
    parser.add_argument("--batch", type=int, default=128, help="images")
    parser.add_argument("--channels", type=int, default=16, help="input channels and features")
    parser.add_argument("--rounds", type=int, default=3, help="timed calls of each map, at most")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_config_arguments(parser, default="")


def run(args: argparse.Namespace) -> int:
    """Runs the command.

    Args:
      args: those of ``add_arguments``.

    Returns:
      1 if a default, or what a step does beside layers, is wrong, else 0.

    Raises:
      ValueError: a size below one, or what is wrong with the configuration.
    """
    if args.config or args.overrides:
        return show_parameters(args)
    sizes = (args.size, args.batch, args.channels, args.rounds)
    if min(sizes) < 1:
        raise ValueError(
            f"--size, --batch, --channels, --rounds are {sizes}: expected 1 or more of each."
        )
    device = jax.local_devices()[0]
    facts, rows = header(device), []
    if not args.json:
        print("\n".join(f"{name:<12}{value}" for name, value in facts.items()))
        print(
            f"layer       {args.size}x{args.size}x{args.channels} -> {args.channels}, 3x3,"
            f" batch {args.batch}; * is the default\n\n{_titles()}"
        )
    for row, work in rows_of(device, *sizes):
        rows.append(row)
        if not args.json:
            print(_line(row, work), flush=True)
    step = []
    if not args.json:
        print(f"\n{check_step.title()}")
    for part in check_step.step_rows(*sizes):
        step.append(part)
        if not args.json:
            print(check_step.line(part), flush=True)
    bad = [
        f"{row.implementation}, the default here,"
        for row in rows
        if row.default and row.verdict != "right"
    ]
    bad += [part.operation for part in step if part.verdict != "right"]
    if args.json:
        found = {"rows": [row._asdict() for row in rows], "step": [part._asdict() for part in step]}
        print(json.dumps(facts | found))
    elif bad:
        print(f"\n{bad[0]} is wrong: please report this output.")
    return int(bool(bad))


def header(device: jax.Device) -> dict[str, str]:
    """Versions and machine, by name."""
    found = versions()
    return {
        "versions": " ".join(f"{name} {found[name]}" for name in ("jaxws", "jax", "jaxlib")),
        "Python": f"{platform.python_version()}, {platform.platform()}",
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "device": f"{device.platform}, {device.device_kind}, {jax.local_device_count()} of them",
        "compiler": _compiler(),
    }


def rows_of(
    device: jax.Device, size: int, batch: int, channels: int, rounds: int
) -> Iterator[tuple[Row, tuple[float, float]]]:
    """Tries everything on one device.

    Args:
      device: where.
      size: rows and columns of the images.
      batch: number of images.
      channels: input channels and features.
      rounds: timed calls of each map, at most.

    Yields:
      A row, and the bytes and operations of a call.
    """
    window = make_window((size, size), (3, 3), 1, 1)
    implementations, fastest = _implementations(), dispatch.FASTEST.get(device.platform)
    for dtype in DTYPES:
        with jax.enable_x64(True) if dtype == "float64" else nullcontext():
            problem = make_problem(window, channels, channels, batch, dtype)
            work, expected = _work(problem), reference(problem)
            obstacles = {
                name: _unsupported_reason(name, implementation, problem, device)
                for name, implementation in implementations.items()
            }
            default = fastest[0] if fastest and not obstacles[fastest[0]] else "slices"
            for name, implementation in implementations.items():
                mark = name == default
                if why := obstacles[name]:
                    yield Row(name, mark, dtype, "", f"not available: {why}"), work
                    continue
                functions = compiled(implementation, problem, device)
                for map_name, function in functions.items():
                    outcome = _try(function, expected[map_name], rounds)
                    yield Row(name, mark, dtype, map_name, *outcome), work


def _implementations() -> dict[str, Implementation]:
    """All of them; ``"patches"`` has no gradients of its own, JAX finds them."""

    def in_x(dy, kernel, spec):
        x = jax.numpy.zeros((*spec.window.input_size, kernel.shape[-2], dy.shape[-1]), dy.dtype)
        return jax.vjp(lambda x: patches.forward(x, kernel, spec), x)[1](dy)[0]

    def in_kernel(x, dy, spec):
        shape = (*spec.window.output_size, *spec.window.kernel_size, x.shape[-2], dy.shape[-2])
        kernel = jax.numpy.zeros(shape, dy.dtype)
        return jax.vjp(lambda kernel: patches.forward(x, kernel, spec), kernel)[1](dy)[0]

    plain = Implementation(patches.forward, in_x, in_kernel, slices.SLICES.unsupported_reason)
    return {**dispatch.BY_NAME, "slices": slices.SLICES, "patches": plain}


def _unsupported_reason(
    name: str, implementation: Implementation, problem: Problem, device: jax.Device
) -> str | None:
    for platform_name, (fastest, _) in dispatch.FASTEST.items():
        if fastest == name and platform_name != device.platform:
            return f"it needs a {platform_name.upper()}"
    x, kernel = problem.arguments["forward"]
    return implementation.unsupported_reason(problem.spec, kernel.shape, x.shape[-1], x.dtype)


def _try(
    function: Callable[[], jax.Array], expected: np.ndarray, rounds: int
) -> tuple[str, float | None, float | None]:
    """The verdict, the difference and the time of one map."""
    try:
        actual = function()
        error = difference(actual, expected)
        times: list[float] = []
        while len(times) < rounds and sum(times) < MOST_MS:
            start = time.perf_counter()
            jax.block_until_ready(function())
            times.append(1e3 * (time.perf_counter() - start))
    except Exception as failure:  # any that a compiler or a driver may raise
        return f"wrong: {error_line(failure)}", None, None
    verdict = "right" if error <= tolerance(actual.dtype) else "wrong"
    return verdict, error, statistics.median(times)


def _work(problem: Problem) -> tuple[float, float]:
    """Bytes of image, kernel and result, each once, and operations."""
    x, kernel = problem.arguments["forward"]
    dy = problem.arguments["kernel_gradient"][1]
    return float(x.nbytes + kernel.nbytes + dy.nbytes), 2.0 * math.prod(kernel.shape) * x.shape[-1]


def _titles() -> str:
    return (
        f"{'implementation':<16}{'dtype':<10}{'map':<17}{'difference':>10}{'ms':>10}"
        f"{'TB/s':>9}{'TFLOP/s':>9}  verdict"
    )


def _line(row: Row, work: tuple[float, float]) -> str:
    name = f"{row.implementation}{' *' if row.default else ''}"
    known: list[Any] = ["", "", "", ""]
    if row.difference is not None and row.ms is not None:
        seconds = row.ms / 1e3
        rates = [f"{w / seconds / 1e12:.3g}" for w in work]
        known = [f"{row.difference:.2g}", f"{row.ms:.3g}", *rates]
    error, ms, bandwidth, flops = known
    return (
        f"{name:<16}{row.dtype:<10}{row.map:<17}{error:>10}{ms:>10}{bandwidth:>9}{flops:>9}"
        f"  {row.verdict}"
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _compiler() -> str:
    path = shutil.which(os.environ.get("CXX") or "c++") or shutil.which("g++")
    if path is None:
        return "none"
    shown = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return shown.stdout.splitlines()[0] if shown.stdout else path
