"""Scoring a network on images, each of which counts once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import flax.linen as nn

from jaxws import data
from jaxws.training.metrics import Metrics
from jaxws.training.programs import compiled_eval_step


def score(
    params: Any,
    batch_stats: Any,
    inputs: Iterator[Any],
    *,
    batching: data.Batching,
    model: nn.Module,
    prefetch: int,
    before_each: Callable[[], None] = lambda: None,
    compiling: AbstractContextManager[Any] | None = None,
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
      compiling: held while the first batch is dispatched, for which there may be a compilation.

    Returns:
      Sums, as floats on the host.
    """
    sums: list[Metrics] = []
    with data.Prefetch(inputs, prefetch) as ready:
        for each in ready:
            before_each()
            with nullcontext() if sums or compiling is None else compiling:
                sums.append(
                    compiled_eval_step(params, batch_stats, each, batching=batching, model=model)
                )
    return Metrics(*(sum(map(float, column)) for column in zip(*sums, strict=True)))
