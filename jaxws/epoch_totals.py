"""Sums over the training steps of an epoch, which go into checkpoints so that none is lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from jaxws.metrics import Metrics, means


class EpochTotals:
    """Adds up the metrics of an epoch's steps, in their order.

    A step that was skipped, because its loss or gradients were not finite, counts as such and its
    metrics do not.

    Attributes:
      sums: of the steps that were not skipped.
      skipped: number of steps that were.

    Example:
      >>> totals = EpochTotals()
      >>> totals.add(Metrics(4.0, 1.0, 2.0, 2.0), skipped=False)
      {'train_loss': 2.0, 'train_top1': 0.5, 'train_top5': 1.0}
      >>> EpochTotals.from_json(totals.to_json()).sums == totals.sums
      True
    """

    def __init__(self, sums: Metrics | None = None, skipped: int = 0):
        """Starts from sums so far.

        Args:
          sums: floats; None before the first step.
          skipped: number of skipped steps.
        """
        self.sums, self.skipped = sums or Metrics(0.0, 0.0, 0.0, 0.0), skipped

    def add(self, metrics: Metrics, skipped: bool) -> dict[str, float]:
        """Adds a step.

        Args:
          metrics: of the step; scalars.
          skipped: whether it was.

        Returns:
          Means over the step's images.
        """
        step = jax.tree.map(float, metrics)
        if skipped:
            self.skipped += 1
        else:
            self.sums = jax.tree.map(lambda a, b: a + b, self.sums, step)
        return means("train", step)

    def to_json(self) -> dict[str, Any]:
        """What :meth:`from_json` reads; exact."""
        return {**self.sums._asdict(), "skipped": self.skipped}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> EpochTotals:
        """The inverse of :meth:`to_json`.

        Args:
          saved: what it gave; an empty one stands for no steps.

        Returns:
          The totals.
        """
        if not saved:
            return cls()
        return cls(Metrics(*(saved[name] for name in Metrics._fields)), saved["skipped"])
