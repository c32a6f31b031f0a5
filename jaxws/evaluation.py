"""Scoring a network on images, each of which counts once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax

from jaxws import data
from jaxws.metrics import Metrics
from jaxws.train_step import eval_step


class Evaluation:
    """Scores a network; the same function for training and for ``python -m jaxws evaluate``."""

    def __init__(self, feed: data.Feed, model: nn.Module, prefetch: int):
        """Compiles nothing yet.

        Args:
          feed: makes batches of inputs, and normalises them.
          model: the network.
          prefetch: number of batches to keep ready on the device.
        """
        self._prefetch = prefetch

        @jax.jit
        def score(params: Any, batch_stats: Any, inputs: Any) -> Metrics:
            return eval_step(params, batch_stats, feed.eval_batch(inputs), model=model)

        self._score = score

    def __call__(
        self,
        params: Any,
        batch_stats: Any,
        inputs: Iterator[Any],
        before_each: Callable[[], None] = lambda: None,
    ) -> Metrics:
        """Adds up exact counts over all images, a ragged last batch included.

        Args:
          params: of the network, packed or not.
          batch_stats: running statistics of BatchNorm.
          inputs: of all batches, such as ``feed.eval_inputs()``.
          before_each: called before each batch; may raise, to stop.

        Returns:
          Sums, as floats on the host.
        """
        sums = []
        with data.Prefetch(inputs, self._prefetch) as batches:
            for batch in batches:
                before_each()
                sums.append(self._score(params, batch_stats, batch))
        return Metrics(*(sum(map(float, column)) for column in zip(*sums, strict=True)))
