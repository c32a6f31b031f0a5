"""Sums over the training steps of an epoch, which go into checkpoints so that none is lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from jaxws.training.metrics import Metrics, means


class EpochTotals:
    """Adds up the metrics of an epoch's steps, in their order.

    A step that was skipped, because its loss or gradients were not finite, counts as such and its
    metrics do not.

    Attributes:
      sums: of the steps that were not skipped.
      skipped: number of steps that were.
      skipped_in_a_row: number of the last steps that were, those of epochs before included.

    Example:
      >>> totals = EpochTotals()
      >>> totals.add(Metrics(4.0, 1.0, 2.0, 2.0), skipped=False)
      {'train_loss': 2.0, 'train_top1': 0.5, 'train_top5': 1.0}
      >>> EpochTotals.from_json(totals.to_json()).sums == totals.sums
      True
    """

    def __init__(self, sums: Metrics | None = None, skipped: int = 0, skipped_in_a_row: int = 0):
        """Starts from sums so far.

        Args:
          sums: floats; None before the first step.
          skipped: number of skipped steps.
          skipped_in_a_row: number of those that were the last.
        """
        self.sums, self.skipped = sums or Metrics(0.0, 0.0, 0.0, 0.0), skipped
        self.skipped_in_a_row = skipped_in_a_row

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
            self.skipped_in_a_row += 1
        else:
            self.skipped_in_a_row = 0
            self.sums = jax.tree.map(lambda a, b: a + b, self.sums, step)
        return means("train", step)

    def next_epoch(self) -> EpochTotals:
        """Totals of an epoch that begins."""
        return EpochTotals(skipped_in_a_row=self.skipped_in_a_row)

    def to_json(self) -> dict[str, Any]:
        """What :meth:`from_json` reads; exact."""
        skipped = {"skipped": self.skipped, "skipped_in_a_row": self.skipped_in_a_row}
        return {**self.sums._asdict(), **skipped}

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
        sums = Metrics(*(saved[name] for name in Metrics._fields))
        return cls(sums, saved["skipped"], saved["skipped_in_a_row"])
