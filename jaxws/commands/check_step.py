"""What a step does beside its layers, for ``python -m jaxws check``: is it right, how fast is it?

The optimizer and BatchNorm do little arithmetic on much memory, so that their rate is that of
memory: it is told as a share of what a copy in place reaches.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxws.core import channel_sums
from jaxws.core.fused_adamw import AdamW, update_layer
from jaxws.core.implementations.proof import difference
from jaxws.core.partitioning import one_device
from jaxws.core.pooled import PooledKernel
from jaxws.core.pools import make_grid

ADAMW = AdamW()
RATE, STEP = 1e-2, 3
TOLERANCE = 1e-4  # of sums in float32, relative to the largest
WIDER = 8  # how many times the layers' features, so that no cache holds the weights
MOST_S = 0.5  # no more time than this goes into timing one operation

Arrays = tuple[Any, ...]


class Operation(NamedTuple):
    """One of them.

    Attributes:
      name: of it.
      run: of arrays, to arrays.
      exact: the same by NumPy.
      draw: arrays for it, of a size.
      passes: over its largest array, of what has to move at least.
      updated: arrays that the first results take the place of, and are written over.
    """

    name: str
    run: Callable[..., Arrays]
    exact: Callable[..., Arrays]
    draw: Callable[[int, int, int], Arrays]
    passes: int
    updated: tuple[int, ...] = ()


class StepRow(NamedTuple):
    """What is known of an operation.

    Attributes:
      operation: its name.
      verdict: 'right' or 'wrong'.
      difference: the largest, in units of the largest number of the result.
      ms: the median time of a call.
      bytes_per_second: of the least that has to move.
      of_copying: this rate over that of a copy in place.
    """

    operation: str
    verdict: str
    difference: float
    ms: float
    bytes_per_second: float
    of_copying: float


def step_rows(size: int, batch: int, channels: int, rounds: int) -> Iterator[StepRow]:
    """Tries them on JAX's default device, in float32.

    Args:
      size: rows and columns of the images.
      batch: number of images.
      channels: of the images.
      rounds: timed calls of each, at most.

    Yields:
      A row for each.
    """
    with one_device():
        for operation in OPERATIONS:
            small = operation.draw(7, 5, 2)
            exact = operation.exact(*small)
            results = jax.jit(operation.run)(*small)
            error = max(_difference(*pair) for pair in zip(results, exact, strict=True))
            arrays = operation.draw(size, batch, channels)
            largest = max(array.nbytes for array in arrays)
            seconds = _median(operation, arrays, rounds)
            copying = 2 * largest / _median(COPY, (jnp.ones(largest // 4),), rounds)
            rate = operation.passes * largest / seconds
            verdict = "right" if error <= TOLERANCE else "wrong"
            yield StepRow(operation.name, verdict, error, 1e3 * seconds, rate, rate / copying)


def title() -> str:
    """The head of their table."""
    return f"{'beside layers':<26}{'difference':>10}{'ms':>10}{'TB/s':>9}{'of a copy':>12}  verdict"


def line(row: StepRow) -> str:
    """A row of it."""
    return (
        f"{row.operation:<26}{row.difference:>10.2g}{row.ms:>10.3g}"
        f"{row.bytes_per_second / 1e12:>9.3g}{row.of_copying:>11.0%}   {row.verdict}"
    )


def _median(operation: Operation, arrays: Arrays, rounds: int) -> float:
    """Seconds of a call, each on what the one before has updated."""
    run, current = jax.jit(operation.run, donate_argnums=operation.updated), list(arrays)
    times: list[float] = []
    for index in range(rounds + 1):  # the first one compiles
        start = time.perf_counter()
        results = jax.block_until_ready(run(*current))
        if index:
            times.append(time.perf_counter() - start)
        if sum(times) > MOST_S:
            break
        for place, result in zip(operation.updated, results, strict=False):
            current[place] = result
    return statistics.median(times)


def _difference(actual: jax.Array, exact: np.ndarray) -> float:
    size = max(np.abs(exact).max(), 1e-30)
    return difference(np.asarray(actual, np.float64) / size, exact / size)


def _draw(rng: np.random.Generator, shape: tuple[int, ...]) -> jax.Array:
    return jnp.asarray(rng.standard_normal(shape, np.float32))


def _layer(size: int, batch: int, channels: int) -> Arrays:
    """Gradient, moments and weights, for which the batch does not matter."""
    shape, rng = (size, size, 3, 3, channels, WIDER * channels), np.random.default_rng(0)
    gradient, mu, nu, weights = (_draw(rng, shape) for _ in range(4))
    return gradient, mu, nu * nu, weights


def _shared_layer(size: int, batch: int, channels: int) -> Arrays:
    *arrays, weights = _layer(size, batch, channels)
    period = min(size, 3)
    return (*arrays, weights[:period, :period])


def _update(gradient: jax.Array, mu: jax.Array, nu: jax.Array, weights: jax.Array) -> Arrays:
    shape = gradient.shape
    after = update_layer(
        weights if weights.shape == shape else PooledKernel(weights, shape[:2]),
        gradient, mu, nu, grid=make_grid(gradient, "grid"), adamw=ADAMW,
        learning_rate=jnp.float32(RATE), count=jnp.asarray(STEP),
    )  # fmt: skip
    return tuple(array for array in after if array is not None)


def _spread(weights: Any, shape: tuple[int, ...]) -> Any:
    """Every position's filter, of those of the pools."""
    h, w = (
        np.arange(size) % period for size, period in zip(shape[:2], weights.shape, strict=False)
    )
    return weights[h][:, w]


def _exact_update(*arrays: jax.Array) -> Arrays:
    gradient, mu, nu, given = (np.asarray(array, np.float64) for array in arrays)
    weights = _spread(given, gradient.shape)
    mu = ADAMW.b1 * mu + (1 - ADAMW.b1) * gradient
    nu = ADAMW.b2 * nu + (1 - ADAMW.b2) * gradient**2
    unbiased = (m / (1 - b**STEP) for m, b in ((mu, ADAMW.b1), (nu, ADAMW.b2)))
    ratio = next(unbiased) / (np.sqrt(next(unbiased)) + ADAMW.eps)
    weights = weights - RATE * (ratio + ADAMW.weight_decay * weights)
    pools = [[weights[i::3, j::3] for j in range(3)] for i in range(3)]
    moments = [
        np.array([[getattr(np, name)(pool, axis=(0, 1)) for pool in row] for row in pools])
        for name in ("mean", "var")
    ]
    return mu, nu, *([] if given.shape != gradient.shape else [weights]), *moments


def _images(size: int, batch: int, channels: int) -> Arrays:
    rng = np.random.default_rng(0)
    return (_draw(rng, (size, size, channels, batch)),)


def _gradients(size: int, batch: int, channels: int) -> Arrays:
    rng, shape = np.random.default_rng(0), (size, size, channels, batch)
    return _draw(rng, shape), _draw(rng, shape), _draw(rng, (channels,))


def _exact_moments(x: jax.Array) -> Arrays:
    wide = np.asarray(x, np.float64)
    return wide.mean((0, 1, 3)), wide.var((0, 1, 3))


def _exact_sums(*arrays: jax.Array) -> Arrays:
    x, dy, mean = (np.asarray(array, np.float64) for array in arrays)
    return dy.sum((0, 1, 3)), (dy * (x - mean[:, None])).sum((0, 1, 3))


OPERATIONS = (
    Operation("AdamW, ws(1)", _update, _exact_update, _shared_layer, 5, (1, 2)),
    Operation("AdamW", _update, _exact_update, _layer, 7, (1, 2, 3)),
    Operation("BatchNorm's moments", channel_sums.moments, _exact_moments, _images, 1),
    Operation("BatchNorm's gradient", channel_sums.gradient_sums, _exact_sums, _gradients, 2),
)
COPY = Operation("copy", lambda x: (x + 1,), lambda x: (x,), _images, 2, (0,))
