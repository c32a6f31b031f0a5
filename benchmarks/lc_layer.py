"""Time of single LC layers, forward and with both gradients, per implementation.

The distinct layers of ResNet-20 and of the 0.5x ResNet-18, as the batch, the channels and the image
grow one at a time. Implementations take turns within one process; the extra memory of each is what
XLA plans for temporary arrays. Run ``python -m benchmarks.lc_layer --help``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import jax_peers, machine
from benchmarks.problem import (
    WEIGHT_BYTES,
    Layer,
    floor_seconds,
    resnet18_layers,
    resnet_cifar_layers,
)
from jaxws import local_conv
from jaxws.core.implementations.autodiff import NAMES

Record = dict[str, Any]
Measured = dict[str, Callable[[], Any]]

DEFAULT = "default"
# Layers, width and image.
NETS: dict[str, tuple[Callable[[int, int], list[Layer]], int, int]] = {
    "resnet20": (partial(resnet_cifar_layers, 20), 16, 32),
    "resnet18": (resnet18_layers, 32, 224),
}
PASSES = ("forward", "gradients")


def distinct(net: str, channel_scale: int = 1, image_scale: int = 1) -> list[Layer]:
    """The layers of a network, of which no two have the same shape.

    Args:
      net: one of ``NETS``.
      channel_scale: how many times as many features.
      image_scale: how many times as large an image.

    Returns:
      The first layer of every shape.
    """
    layers_of, width, image = NETS[net]
    layers = layers_of(width * channel_scale, image * image_scale)
    return list({layer[2:]: layer for layer in reversed(layers)}.values())[::-1]


def cost(layer: Layer, batch: int, which: str) -> dict[str, int]:
    """Operations and bytes of a layer alone, whose images come from memory and go there.

    Args:
      layer: its shape.
      batch: number of images n.
      which: one of ``PASSES``; gradients are forward and both gradients.

    Returns:
      ``flops`` and ``bytes``.
    """
    x = batch * layer.size**2 * layer.channels
    y = batch * layer.positions**2 * layer.features
    # Forward reads x and the kernel; the gradients read dy, x and the kernel and write two more.
    numbers = x + y + layer.weights
    if which == "gradients":
        numbers = 2 * numbers + x + y + layer.weights
    products = batch * layer.weights * (3 if which == "gradients" else 1)
    return {"flops": 2 * products, "bytes": WEIGHT_BYTES * numbers}


def compile_layer(layer: Layer, batch: int, implementation: str) -> tuple[Measured, Record]:
    """Compiles both passes of one implementation.

    Args:
      layer: its shape.
      batch: number of images.
      implementation: a name of :mod:`jaxws.core.implementations`, or "default".

    Returns:
      Functions that run each of ``PASSES`` to its end, and XLA's temporary bytes of each.
    """
    keys = jax.random.split(jax.random.key(0), 3)
    side, k, c, f = layer.positions, layer.kernel, layer.channels, layer.features
    x = jax.random.normal(keys[0], (layer.size, layer.size, c, batch))
    kernel = jax.random.normal(keys[1], (side, side, k, k, c, f))
    dy = jax.random.normal(keys[2], (side, side, f, batch))

    def forward(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return local_conv(
            x,
            kernel,
            strides=layer.stride,
            padding=(k - 1) // 2,
            implementation=None if implementation == DEFAULT else implementation,
            batch_last=True,
        )

    def gradients(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> Any:
        y, transpose = jax.vjp(forward, x, kernel)
        return y, transpose(dy)

    compiled = (
        jax.jit(forward).lower(x, kernel).compile(),
        jax.jit(gradients).lower(x, kernel, dy).compile(),
    )
    runs = {
        "forward": lambda: jax.block_until_ready(compiled[0](x, kernel)),
        "gradients": lambda: jax.block_until_ready(compiled[1](x, kernel, dy)),
    }
    analyses = [program.memory_analysis() for program in compiled]
    temporary = [analysis and analysis.temp_size_in_bytes for analysis in analyses]
    return runs, dict(zip(PASSES, temporary, strict=True))


def measure(layer: Layer, batch: int, options: argparse.Namespace, rates: Record) -> list[Record]:
    """Times one layer in every implementation.

    Args:
      layer: its shape.
      batch: number of images.
      options: of the command line.
      rates: of the machine.

    Returns:
      A record for each pass.
    """
    runs: dict[str, Measured] = {}
    temporary: dict[str, Record] = {}
    errors: dict[str, str] = {}
    for name in options.implementations:
        try:
            runs[name], temporary[name] = compile_layer(layer, batch, name)
        except (NotImplementedError, ValueError, jax.errors.JaxRuntimeError) as error:
            errors[name] = str(error).strip().split("\n")[0][:200]  # not for this platform
    records = []
    for which in PASSES:
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for repeat in range(options.rounds + 1):
            for name, run in runs.items():
                start = time.perf_counter()
                run[which]()
                if repeat:  # the first one warms up
                    seconds[name].append(time.perf_counter() - start)
        least = cost(layer, batch, which)
        times = {name: statistics.median(samples) for name, samples in seconds.items()}
        records.append(
            {
                "layer": layer._asdict(),
                "batch": batch,
                "pass": which,
                "floor": least | floor_seconds(least, rates),
                "seconds": seconds,
                "median_seconds": times,
                "temporary_bytes": {name: sizes[which] for name, sizes in temporary.items()},
                "errors": errors,
            }
        )
    return records


def cases(options: argparse.Namespace) -> list[tuple[str, Layer, int]]:
    """What to measure: (title, layer, batch); one of batch, channels and image grows at a time."""
    first = options.batches[0]
    grown = [(batch, 1, 1) for batch in options.batches]
    grown += [(first, scale, 1) for scale in options.channel_scales if scale > 1]
    grown += [(first, 1, scale) for scale in options.image_scales if scale > 1]
    return [
        (f"{net} {layer.name}, batch {batch}, channels x{channels}, image x{image}", layer, batch)
        for net in options.nets
        for batch, channels, image in grown
        for layer in distinct(net, channels, image)
    ]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    def names(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--nets", type=names, default=list(NETS))
    parser.add_argument("--batches", type=numbers, default=[32, 128])
    parser.add_argument("--channel-scales", type=numbers, default=[1, 2])
    parser.add_argument("--image-scales", type=numbers, default=[1, 2])
    parser.add_argument("--implementations", type=names, default=[DEFAULT, *NAMES])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="where to write the results, JSON")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    options = parse(arguments)
    rates = jax_peers.measure_rates(jnp.float32)
    print(f"{rates['flops'] / 1e9:.4g} GFLOP/s, {rates['bytes'] / 1e9:.4g} GB/s; milliseconds:")
    results: list[Record] = []
    ratios: dict[str, dict[str, float]] = {}
    for title, layer, batch in cases(options):
        for record in measure(layer, batch, options, rates):
            results.append({"title": title, **record})
            times = record["median_seconds"]
            columns = [f"{name} {1e3 * time:.2f}" for name, time in times.items()]
            floor = f"floor {1e3 * record['floor']['seconds']:.2f}"
            print(f"{title}, {record['pass']}: {', '.join([*columns, floor])}", flush=True)
            if DEFAULT in times:
                ratios |= {
                    f"{title}, {record['pass']}/{name}": {"time": time / times[DEFAULT]}
                    for name, time in times.items()
                    if name != DEFAULT
                }
    if options.out:
        report = {"benchmark": "lc_layer", "reference": DEFAULT, **machine.metadata()}
        device = {"backend": jax.default_backend(), "kind": jax.devices()[0].device_kind}
        report |= {"device": device, "rates": rates, "results": results, "ratios": ratios}
        machine.write_report(options.out, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
