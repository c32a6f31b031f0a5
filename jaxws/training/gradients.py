"""Loss and gradients of a batch, whole or in parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxws.core.leaf_patterns import map_matching
from jaxws.core.packed import unpack_kernels
from jaxws.core.pooled import probes, with_probes
from jaxws.data.batch import Batch
from jaxws.training.metrics import METRICS, Metric, Sums, batch_metrics

# The gradients, the sums over the batch and the running statistics after it.
Result = tuple[Any, Sums, Any]


def batch_gradients(
    params: Any,
    batch_stats: Any,
    batch: Batch,
    *,
    model: nn.Module,
    accumulate: int = 1,
    scale: jax.typing.ArrayLike = 1.0,
    metrics: Mapping[str, Metric] = METRICS,
    frozen: Sequence[str] = (),
) -> Result:
    """The gradients of the mean cross-entropy of a batch's real images.

    In parts, they are the same gradients, added up in the dtype of the parameters, in less memory;
    but BatchNorm normalises each part by itself, and updates its statistics part by part. Part i
    takes the rows i, i + accumulate, ...: where views of an image follow one another, a part sees
    as many images as possible, and the rows that fill up a ragged batch fall to all parts alike.

    Args:
      params: parameters of the model, packed and pooled or not.
      batch_stats: running statistics.
      batch: images (n, H, W, c), labels (n,) and a mask (n,) or None; without real images, all
        results are NaN.
      model: called as ``model(x, train=True, mask=mask)``.
      accumulate: number of parts.
      scale: multiplies the gradients.
      metrics: what else to count of the images, by name; ``loss`` is what is differentiated.
      frozen: patterns of leaves (:mod:`jaxws.core.leaf_patterns`) whose gradients are not computed.

    Returns:
      Gradients of all weights, also of pooled ones, 0 where frozen; sums over the batch;
      running statistics.

    Raises:
      ValueError: a batch that cannot be cut into so many parts.

    Example:
      >>> from functools import partial
      >>> from jaxws.models import ResNet
      >>> model = ResNet(stage_sizes=(), width=4, num_classes=10, conv=nn.Conv)
      >>> variables = jax.jit(model.init)(jax.random.key(0), jnp.ones((1, 8, 8, 1)))
      >>> batch = Batch(jnp.ones((4, 8, 8, 1)), jnp.array([0, 1, 2, 3]), mask=None)
      >>> compute = jax.jit(partial(batch_gradients, model=model, accumulate=2))
      >>> gradients, metrics, _ = compute(**variables, batch=batch)
      >>> gradients["fc"]["bias"].shape, float(metrics["images"])
      ((10,), 4.0)
    """
    rows = len(batch.label)
    if accumulate < 1 or rows % accumulate:
        raise ValueError(
            f"a batch of {rows} rows cannot be accumulated from {accumulate} equal parts: change"
            " the batch or the number of parts."
        )
    images = rows if batch.mask is None else batch.mask.sum(dtype=jnp.float32)

    def scaled_loss(
        weights: Any, batch_stats: Any, part: Batch, seen: jax.Array | None
    ) -> tuple[Any, tuple[Sums, Any]]:
        weights = map_matching(partial(jax.tree.map, lax.stop_gradient), weights, frozen)
        logits, updates = model.apply(
            {"params": unpack_kernels(with_probes(params, weights)), "batch_stats": batch_stats},
            part.image,
            train=True,
            mask=seen,
            mutable=["batch_stats"],
        )
        sums = batch_metrics(logits, part, metrics)
        mean = sums["loss"] / jnp.asarray(images, jnp.result_type(sums["loss"]))
        return scale * mean, (sums, updates.get("batch_stats", batch_stats))

    weights = probes(params)
    gradients_of = jax.grad(scaled_loss, has_aux=True)
    if accumulate == 1:
        gradients, (sums, batch_stats) = gradients_of(weights, batch_stats, batch, batch.mask)
        return gradients, sums, batch_stats
    return _in_parts(gradients_of, weights, batch_stats, _cut(batch, accumulate))


def _cut(batch: Batch, parts: int) -> Batch:
    """The rows i, i + parts, ... of all arrays as their entry i."""

    def cut(array: jax.Array) -> jax.Array:
        return jnp.moveaxis(array.reshape(-1, parts, *array.shape[1:]), 1, 0)

    return jax.tree.map(cut, batch)


def _in_parts(
    gradients_of: Callable[..., Any], weights: Any, batch_stats: Any, parts: Batch
) -> Result:
    def add(carry: tuple[Any, Any], part: Batch) -> tuple[tuple[Any, Any], Sums]:
        total, batch_stats = carry
        if part.mask is None:
            gradients, (sums, batch_stats) = gradients_of(weights, batch_stats, part, None)
        else:
            # Statistics of no images are 0 / 0, and so would be everything after them: a part
            # without real ones is shown as if all were, counts for nothing and leaves no trace.
            real = part.mask.any()
            gradients, (sums, updated) = gradients_of(weights, batch_stats, part, part.mask | ~real)
            batch_stats = jax.tree.map(partial(jnp.where, real), updated, batch_stats)
        return (jax.tree.map(jnp.add, total, gradients), batch_stats), sums

    zeros = jax.tree.map(jnp.zeros_like, weights)
    (gradients, batch_stats), sums = lax.scan(add, (zeros, batch_stats), parts)
    return gradients, jax.tree.map(jnp.sum, sums), batch_stats
