"""Scoring a network on images, each of which counts once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import flax.linen as nn
import jax

from jaxws import data
from jaxws.core.packed import unpack_kernels
from jaxws.core.pooled import probes, with_probes
from jaxws.data import Batch
from jaxws.parallel import processes
from jaxws.parallel.compiled import Together
from jaxws.parallel.placement import split_batch
from jaxws.training.metrics import IMAGES, METRICS, Metric, Sums, batch_metrics


def eval_step(
    params: Any,
    batch_stats: Any,
    batch: Batch,
    *,
    model: nn.Module,
    metrics: Mapping[str, Metric] = METRICS,
) -> Sums:
    """Metrics of a batch with running statistics; masked rows count for nothing.

    Args:
      params: parameters of the model, packed and pooled or not.
      batch_stats: running statistics.
      batch: images, labels and a mask or None.
      model: called as ``model(x, train=False)``.
      metrics: what to count of the images, by name.

    Returns:
      Sums over the batch's real images, see :func:`jaxws.training.metrics.batch_metrics`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxws.models import ResNet
      >>> model = ResNet(stage_sizes=(), width=4, num_classes=10, conv=nn.Conv)
      >>> variables = jax.jit(model.init)(jax.random.key(0), jnp.ones((1, 8, 8, 1)))
      >>> batch = Batch(jnp.ones((2, 8, 8, 1)), jnp.array([0, 1]), jnp.array([True, False]))
      >>> float(eval_step(**variables, batch=batch, model=model)["images"])
      1.0
    """
    # Probes, because Flax compares shapes of parameters with those of the layer.
    params = unpack_kernels(with_probes(params, probes(params)))
    variables = {"params": params, "batch_stats": batch_stats}
    logits: Any = model.apply(variables, batch.image, train=False)
    return batch_metrics(logits, batch, metrics)


@Together
@partial(jax.jit, static_argnames=("batching", "model", "metrics"))
def compiled_eval_step(
    params: Any,
    batch_stats: Any,
    inputs: Any,
    *,
    batching: data.Batching,
    model: nn.Module,
    metrics: tuple[tuple[str, Metric], ...],
) -> Sums:
    """Sums over a batch, which is made of its inputs here.

    Args:
      params: parameters of the model, packed and pooled or not.
      batch_stats: running statistics.
      inputs: of the run's feed.
      batching: makes the batch, see :class:`jaxws.data.Feed`.
      model: the network.
      metrics: what to count of the images: names and functions.

    Returns:
      As :func:`eval_step`.
    """
    batch = split_batch(batching.eval_batch(inputs))
    return eval_step(params, batch_stats, batch, model=model, metrics=dict(metrics))


def score(
    params: Any,
    batch_stats: Any,
    inputs: Iterator[Any],
    *,
    batching: data.Batching,
    model: nn.Module,
    prefetch: int,
    before_each: Callable[[], None] = lambda: None,
    while_waiting: Callable[[], None] = lambda: None,
    compiling: AbstractContextManager[Any] | None = None,
) -> Sums:
    """Adds up exact counts over all images, a ragged last batch included.

    Args:
      params: of the network, packed or not.
      batch_stats: running statistics of BatchNorm.
      inputs: of all batches, such as ``feed.eval_inputs()``.
      batching: makes batches of them, such as ``feed.batching``.
      model: the network.
      prefetch: number of batches to keep ready on the device.
      before_each: called before each batch; may raise, to stop.
      while_waiting: called now and then while a batch is waited for; may raise as well.
      compiling: held while the first batch is dispatched, for which there may be a compilation.

    Returns:
      Sums of all metrics and the number of images, as floats on the host.
    """
    sums: list[Sums] = []
    evaluate = partial(
        compiled_eval_step, batching=batching, model=model, metrics=tuple(METRICS.items())
    )
    with data.Prefetch(inputs, prefetch, while_waiting) as ready:
        for each in ready:
            if not sums:
                processes.barrier("evaluation")  # devices wait for one another, but not for long
            before_each()
            with nullcontext() if sums or compiling is None else compiling:
                sums.append(evaluate(params, batch_stats, each))
    return {name: sum(float(each[name]) for each in sums) for name in (*METRICS, IMAGES)}
