"""Scoring a network on images, each of which counts once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import flax.linen as nn
import jax

from jaxws import data
from jaxws.metrics import Metrics
from jaxws.train_step import eval_step


@partial(jax.jit, static_argnames=("batching", "model"))
def compiled_eval_step(
    params: Any, batch_stats: Any, inputs: Any, *, batching: data.Batching, model: nn.Module
) -> Metrics:
    """The jitted step, its batch included; compiled once in a process for equal settings."""
    return eval_step(params, batch_stats, batching.eval_batch(inputs), model=model)


def score(
    params: Any,
    batch_stats: Any,
    inputs: Iterator[Any],
    *,
    batching: data.Batching,
    model: nn.Module,
    prefetch: int,
    before_each: Callable[[], None] = lambda: None,
) -> Metrics:
    """Adds up exact counts over all images, a ragged last batch included.

    Args:
      params: of the network, packed or not.
      batch_stats: running statistics of BatchNorm.
      inputs: of all batches, such as ``feed.eval_inputs()``.
      batching: makes batches of them, such as ``feed.batching``.
      model: the network.
      prefetch: number of batches to keep ready on the device.
      before_each: called before each batch; may raise, to stop.

    Returns:
      Sums, as floats on the host.
    """
    sums = []
    with data.Prefetch(inputs, prefetch) as ready:
        for each in ready:
            before_each()
            sums.append(
                compiled_eval_step(params, batch_stats, each, batching=batching, model=model)
            )
    return Metrics(*(sum(map(float, column)) for column in zip(*sums, strict=True)))
