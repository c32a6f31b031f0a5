"""What is counted of a batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxws.data.batch import Batch


class Metrics(NamedTuple):
    """Sums over the images of batches; divided by ``images`` they are means.

    Attributes:
      loss: sum of cross-entropies in nats.
      top1: number of images whose label has the largest logit.
      top5: number of images whose label is among the five largest.
      images: number of images.
    """

    loss: jax.typing.ArrayLike
    top1: jax.typing.ArrayLike
    top5: jax.typing.ArrayLike
    images: jax.typing.ArrayLike


def batch_metrics(logits: jax.Array, batch: Batch) -> Metrics:
    """Sums loss and hits over the real images of a batch.

    A label ranks behind equal logits of smaller index, as argmax would have it, and behind all
    others where logits are NaN.

    Args:
      logits: shape (n, classes).
      batch: with labels (n,) and a mask (n,) or None.

    Returns:
      The sums.

    Example:
      >>> batch = Batch(image=None, label=jnp.array([1, 0]), mask=None)
      >>> metrics = batch_metrics(jnp.array([[0.0, 9.0], [0.0, 9.0]]), batch)
      >>> float(metrics.top1), float(metrics.top5)
      (1.0, 2.0)
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label)
    label = batch.label[:, None]
    true = jnp.take_along_axis(logits, label, axis=1)
    index = jnp.arange(logits.shape[1], dtype=label.dtype)
    ahead = jnp.where(index < label, ~(logits < true), ~(logits <= true)) & (index != label)
    rank = ahead.sum(axis=1)
    real = jnp.ones(losses.shape, bool) if batch.mask is None else batch.mask
    return Metrics(
        loss=jnp.sum(losses, where=real),
        top1=jnp.sum(real & (rank < 1), dtype=jnp.float32),
        top5=jnp.sum(real & (rank < 5), dtype=jnp.float32),
        images=jnp.sum(real, dtype=jnp.float32),
    )


def means(split: str, sums: Metrics) -> dict[str, float]:
    """Means over images, under the names of metrics.jsonl.

    Args:
      split: ``'train'`` or ``'test'``.
      sums: floats.

    Returns:
      Loss, top-1 and top-5; NaN over no images.

    Example:
      >>> means("test", Metrics(4.0, 1.0, 2.0, 2.0))["test_top1"]
      0.5
    """
    values: dict[str, Any] = sums._asdict()
    images = values["images"] or float("nan")
    return {f"{split}_{name}": values[name] / images for name in ("loss", "top1", "top5")}
