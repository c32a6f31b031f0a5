"""Kinds of layers beside what is nearest to them: blocks, low rank, transposed, NNX.

Forward and the gradients of image and parameters, of layers as users write them. All take turns
within one process, a round each. Run ``python -m benchmarks.layer_kinds --help``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

import jaxws.nnx
from benchmarks import machine
from jaxws import LocalConv, LocalConvTranspose, LowRankConv
from jaxws.core.low_rank import combination_weights

Record = dict[str, Any]
Run = Callable[[], Any]
# Image, channels and features, as in the three stages of ResNet-20.
SHAPES = ((32, 16, 16), (16, 32, 32), (8, 64, 64))
SIZE = (3, 3)


class CombinedConvolutions(nn.Module):
    """A low-rank layer as it is described: a convolution per filter of the basis, then weighted."""

    features: int
    rank: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies it to images (n, H, W, c)."""
        parts = [
            self.param(f"combination_{axis}", nn.initializers.zeros, (size, self.rank))
            for axis, size in enumerate(x.shape[1:3])
        ]
        y = nn.Conv(self.rank * self.features, SIZE, use_bias=False, name="basis")(x)
        y = y.reshape(*y.shape[:-1], self.rank, self.features)
        return jnp.einsum("nhwrf,hwr->nhwf", y, combination_weights(parts))


def linen(layer: nn.Module, x: jax.Array) -> Run:
    """Compiles a Linen layer with both gradients."""
    params = jax.jit(layer.init)(jax.random.key(0), x)["params"]

    def apply(params: Any, x: jax.Array) -> jax.Array:
        y: Any = layer.apply({"params": params}, x)
        return y

    return compiled(apply, params, x)


def of_nnx(layer: nnx.Module, x: jax.Array) -> Run:
    """Compiles an NNX layer with both gradients."""
    graph, state = nnx.split(layer)
    return compiled(lambda state, x: nnx.merge(graph, state)(x), state, x)


def compiled(function: Callable[[Any, jax.Array], jax.Array], params: Any, x: jax.Array) -> Run:
    """Compiles a function of parameters and images with both gradients.

    Args:
      function: the layer.
      params: its parameters.
      x: images.

    Returns:
      What runs it to its end.
    """

    @jax.jit
    def step(params: Any, x: jax.Array) -> Any:
        y, pull_back = jax.vjp(function, params, x)
        return y, pull_back(y)

    program = step.lower(params, x).compile()
    return lambda: jax.block_until_ready(program(params, x))


def peers(image: int, channels: int, features: int, batch: int) -> dict[str, tuple[str, Run]]:
    """The layers of one shape, and beside which of them each is set.

    Args:
      image: height and width.
      channels: c.
      features: f.
      batch: number of images n.

    Returns:
      A dict from names to the name of the peer and what runs the layer.
    """
    x = jax.random.normal(jax.random.key(1), (batch, image, image, channels))
    bare: dict[str, Any] = {"kernel_size": SIZE, "use_bias": False}
    twice: dict[str, Any] = {"strides": (2, 2), **bare}

    def local(**arguments: Any) -> Run:
        return linen(LocalConv(features, **bare, **arguments), x)

    nnx_layer = jaxws.nnx.LocalConv(
        channels, features, SIZE, image_size=(image, image), use_bias=False, rngs=nnx.Rngs(0)
    )
    found = {
        "conv": ("lc", linen(nn.Conv(features, **bare), x)),
        "lc": ("lc", local()),
        "lc, circular": ("lc", local(padding="CIRCULAR")),
        "lc in NNX": ("lc", of_nnx(nnx_layer, x)),
        "blocks of 2 x 2": ("lc", local(block_size=2)),
        "blocks of 4 x 4": ("lc", local(block_size=4)),
        "transposed conv": ("transposed lc", linen(nn.ConvTranspose(features, **twice), x)),
        "lc on dilated input": ("transposed lc", local(input_dilation=2)),
        "transposed lc": ("transposed lc", linen(LocalConvTranspose(features, **twice), x)),
    }
    for rank in (2, 4):
        name = f"rank {rank}"
        low_rank = LowRankConv(features, rank=rank, **bare)
        found |= {
            name: ("lc", linen(low_rank, x)),
            f"{name}, as convolutions": (name, linen(CombinedConvolutions(features, rank), x)),
        }
    return found


def measure(layers: dict[str, tuple[str, Run]], rounds: int) -> dict[str, Record]:
    """Times all layers in turns.

    Args:
      layers: as :func:`peers` returns them.
      rounds: how often each runs, after once more.

    Returns:
      By name, samples of wall and CPU time, and their median.
    """
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in layers}
    for count in range(rounds + 1):
        order = list(layers) if count % 2 else list(layers)[::-1]
        for name in order:
            start = time.perf_counter(), time.process_time()
            layers[name][1]()
            end = time.perf_counter(), time.process_time()
            if count:
                samples[name].append((end[0] - start[0], end[1] - start[1]))
    return {
        name: {
            "seconds": [wall for wall, _ in own],
            "median_seconds": statistics.median(wall for wall, _ in own),
            "median_cpu_seconds": statistics.median(cpu for _, cpu in own),
        }
        for name, own in samples.items()
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, help="where to write the results, JSON")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    options = parse(arguments)
    results, ratios = [], {}
    for image, channels, features in SHAPES:
        title = f"{image} x {image}, {channels} to {features}"
        layers = peers(image, channels, features, options.batch)
        measured = measure(layers, options.rounds)
        results.append({"title": title, "batch": options.batch, "layers": measured})
        print(f"{title}, batch {options.batch}; milliseconds, and the part of what it is beside:")
        for name, (reference, _) in layers.items():
            own, beside = measured[name], measured[reference]
            ratio = own["median_seconds"] / beside["median_seconds"]
            ratios[f"{title}: {name} / {reference}"] = {"time": ratio}
            print(f"  {name}: {1e3 * own['median_seconds']:.2f}, {ratio:.2f} of {reference}")
    if options.out:
        report = {"benchmark": "layer_kinds", **machine.metadata(), "results": results}
        report |= {"backend": jax.default_backend(), "ratios": ratios}
        machine.write_report(options.out, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
