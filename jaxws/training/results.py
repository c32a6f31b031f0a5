"""What steps have computed, taken in one step late so that the device never waits for it."""

from __future__ import annotations

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxws.records.recorder import Recorder
from jaxws.training.divergence import check_finite, check_skipped
from jaxws.training.metrics import EpochTotals, Sums
from jaxws.training.step import StepInfo


class _Result(NamedTuple):
    """Of a step; its numbers may still be computed."""

    step: int
    sums: Sums
    info: StepInfo


class Results:
    """Adds up what steps return, has it recorded, and checks it.

    The results of a step are fetched when those of the next one are put in, by when the device has
    that step to compute; or by :meth:`take`, where everything must be known: before a checkpoint,
    an evaluation and a stop.

    Attributes:
      totals: of the epoch in progress.
    """

    def __init__(self, totals: EpochTotals, recorder: Recorder, divergence: ConfigDict):
        """Starts in an epoch.

        Args:
          totals: of its steps so far.
          recorder: is told of each step.
          divergence: ``config.divergence``.
        """
        self.totals, self._recorder = totals, recorder
        self._skips, self._max_skipped = divergence.action == "skip", divergence.max_skipped
        self._pending: _Result | None = None

    @property
    def pending(self) -> Any:
        """Results that have not been taken in yet, or None: what the device may be busy with."""
        return self._pending

    def put(self, step: int, sums: Sums, info: StepInfo) -> None:
        """Takes in the step before, and keeps these results for later.

        Args:
          step: number of steps done.
          sums: of :func:`jaxws.training.step.train_step`, as the next one.
          info: about the step.

        Raises:
          Diverged: as :meth:`take`, about the step before.
        """
        self.take()
        self._pending = _Result(step, sums, info)

    def take(self) -> None:
        """Takes in everything that was put in; waits for the device.

        Raises:
          Diverged: loss or gradients are not finite, and such steps are not skipped, or too many
            of them were.
        """
        if self._pending is None:
            return
        (step, sums, info), self._pending = self._pending, None
        means = self.totals.add(sums, skipped=bool(info.skipped))
        self._recorder.step(step, means, {"images": sums["images"], **info._asdict()})
        check_skipped(self.totals.skipped_in_a_row, self._max_skipped, step)
        if info.diverged and not self._skips:
            check_finite("loss", means["train_loss"], step)
            check_finite("norm of the gradients", float(info.grad_norm), step)

    def end_epoch(self) -> None:
        """Starts the totals of the next epoch."""
        self.totals = self.totals.next_epoch()
