"""What is counted of images: sums by name, which are added up over batches, epochs and stops.

A metric is a function of logits and labels, and an entry of :data:`METRICS`: training, evaluation,
metrics.jsonl, checkpoints, TensorBoard and reports take its name from there. Old checkpoints go on
to load: of the epoch that was in progress, a metric that is newer has no mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxws.core.local_kernels import accumulation_dtype
from jaxws.data.batch import Batch

Sums = dict[str, Any]  # of METRICS, by name, and the number of images under IMAGES
Metric = Callable[[jax.Array, jax.Array], jax.Array]
IMAGES = "images"
_SKIPPED = ("skipped", "skipped_in_a_row")


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The loss of each image, in nats.

    Args:
      logits: shape (n, classes).
      labels: shape (n,).

    Returns:
      Shape (n,).

    Example:
      >>> cross_entropy(jnp.zeros((1, 4)), jnp.array([3])).round(3)
      Array([1.386], dtype=float32)
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def hit(k: int) -> Metric:
    """Makes the metric top-k: whether an image's label is among its k largest logits.

    A label ranks behind equal logits of smaller index, as argmax would have it, and behind all
    others where logits are NaN.

    Args:
      k: number of logits.

    Returns:
      A function of logits (n, classes) and labels (n,) to bools (n,).

    Example:
      >>> hit(1)(jnp.array([[0.0, 9.0], [0.0, 9.0]]), jnp.array([1, 0]))
      Array([ True, False], dtype=bool)
    """

    def hits(logits: jax.Array, labels: jax.Array) -> jax.Array:
        label = labels[:, None]
        true = jnp.take_along_axis(logits, label, axis=1)
        index = jnp.arange(logits.shape[1], dtype=label.dtype)
        ahead = jnp.where(index < label, ~(logits < true), ~(logits <= true)) & (index != label)
        return ahead.sum(axis=1) < k

    return hits


# Called on logits (n, classes) and labels (n,), for n numbers or bools. Training descends "loss".
METRICS: dict[str, Metric] = {
    "loss": cross_entropy,
    "top1": hit(1),
    "top5": hit(5),
}


def batch_metrics(logits: jax.Array, batch: Batch, metrics: Mapping[str, Metric] = METRICS) -> Sums:
    """Sums each metric over the real images of a batch.

    Args:
      logits: shape (n, classes).
      batch: with labels (n,) and a mask (n,) or None.
      metrics: what to count, by name.

    Returns:
      The sums.

    Example:
      >>> batch = Batch(image=None, label=jnp.array([1, 0]), mask=None)
      >>> sums = batch_metrics(jnp.array([[0.0, 9.0], [0.0, 9.0]]), batch)
      >>> float(sums["top1"]), float(sums["top5"]), float(sums["images"])
      (1.0, 2.0, 2.0)
    """
    real = jnp.ones(batch.label.shape, bool) if batch.mask is None else batch.mask

    def add_up(values: jax.Array) -> jax.Array:
        return jnp.sum(values.astype(accumulation_dtype(values.dtype)), where=real)

    sums = {name: add_up(metric(logits, batch.label)) for name, metric in metrics.items()}
    return {**sums, IMAGES: jnp.sum(real, dtype=jnp.float32)}


def means(sums: Mapping[str, Any], split: str | None = None) -> dict[str, float]:
    """Means over images.

    Args:
      sums: floats.
      split: ``'train'`` or ``'test'``, for the names of metrics.jsonl.

    Returns:
      The mean of each metric; NaN over no images.

    Example:
      >>> means({"loss": 4.0, "top1": 1.0, "images": 2.0}, "test")
      {'test_loss': 2.0, 'test_top1': 0.5}
    """
    images, prefix = sums[IMAGES] or float("nan"), f"{split}_" if split else ""
    return {prefix + name: value / images for name, value in sums.items() if name != IMAGES}


class EpochTotals:
    """Sums over the training steps of an epoch, which go into checkpoints so that none is lost.

    A step that was skipped, because its loss or gradients were not finite, counts as such and its
    metrics do not.

    Attributes:
      sums: of the steps that were not skipped.
      skipped: number of steps that were.
      skipped_in_a_row: number of the last steps that were, those of epochs before included.

    Example:
      >>> totals = EpochTotals()
      >>> totals.add({"loss": 4.0, "top1": 1.0, "top5": 2.0, "images": 2.0}, skipped=False)
      {'train_loss': 2.0, 'train_top1': 0.5, 'train_top5': 1.0}
      >>> EpochTotals.from_json(totals.to_json()).sums == totals.sums
      True
    """

    def __init__(self, sums: Sums | None = None, skipped: int = 0, skipped_in_a_row: int = 0):
        """Starts from sums so far.

        Args:
          sums: floats; None before the first step.
          skipped: number of skipped steps.
          skipped_in_a_row: number of those that were the last.
        """
        self.sums: Sums = dict.fromkeys((*METRICS, IMAGES), 0.0) if sums is None else sums
        self.skipped, self.skipped_in_a_row = skipped, skipped_in_a_row

    def add(self, sums: Mapping[str, Any], skipped: bool) -> dict[str, float]:
        """Adds a step.

        Args:
          sums: of the step; scalars.
          skipped: whether it was.

        Returns:
          Means over the step's images.
        """
        step = {name: float(value) for name, value in sums.items()}
        if skipped:
            self.skipped += 1
            self.skipped_in_a_row += 1
        else:
            self.skipped_in_a_row = 0
            self.sums = {name: self.sums[name] + value for name, value in step.items()}
        return means({name: step[name] for name in self.sums}, "train")

    def next_epoch(self) -> EpochTotals:
        """Totals of an epoch that begins."""
        return EpochTotals(skipped_in_a_row=self.skipped_in_a_row)

    def to_json(self) -> dict[str, Any]:
        """What :meth:`from_json` reads; exact."""
        counts = (self.skipped, self.skipped_in_a_row)
        return {**self.sums, **dict(zip(_SKIPPED, counts, strict=True))}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> EpochTotals:
        """The inverse of :meth:`to_json`, also of one that knew fewer metrics, or others.

        Args:
          saved: what it gave; an empty one stands for no steps.

        Returns:
          The totals; NaN of a metric that the steps before were not measured by.
        """
        if not saved:
            return cls()
        unknown = float("nan") if saved[IMAGES] else 0.0
        sums = {name: saved.get(name, unknown) for name in (*METRICS, IMAGES)}
        return cls(sums, *(saved[name] for name in _SKIPPED))
