"""Which checkpoints a run keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


class LastAndBest:
    """Which checkpoints Orbax keeps: the last ones, and the newest of those with the best score.

    Example:
      >>> from types import SimpleNamespace
      >>> policy = LastAndBest(1, lambda: {1: 0.5, 2: 0.25}, lambda step: True)
      >>> policy.should_preserve([SimpleNamespace(step=step) for step in (1, 2, 3)], context=None)
      [True, False, True]
    """

    def __init__(
        self,
        keep: int,
        scores: Callable[[], Mapping[int, float]],
        is_ours: Callable[[int], bool],
    ):
        """Changes nothing.

        Args:
          keep: number of the newest to keep.
          scores: gives scores by step.
          is_ours: whether a step is one of the run.
        """
        self._keep, self._scores, self._is_ours = keep, scores, is_ours

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """As Orbax asks it.

        Args:
          checkpoints: each with its ``step``.
          context: not looked at.

        Returns:
          Whether to keep each of them.
        """
        del context
        # Orbax takes more names than ours for steps: what is not ours is not counted, and stays.
        ours = [step for step in (c.step for c in checkpoints) if self._is_ours(step)]
        scores = self._scores()
        scored = [step for step in ours if step in scores]
        best = max(scored, key=lambda step: (scores[step], step), default=None)
        kept = {*sorted(ours)[-self._keep :], best}
        return [c.step in kept or c.step not in ours for c in checkpoints]
