"""Which checkpoints a run keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def obsolete(steps: Sequence[int], keep: int, scores: Mapping[int, float]) -> list[int]:
    """Which checkpoints go: all but the last ones, and the newest of those with the best score.

    Args:
      steps: that have a checkpoint, in ascending order.
      keep: number of the newest to keep.
      scores: by step.

    Returns:
      Steps.

    Example:
      >>> obsolete([1, 2, 3], 1, {1: 0.5, 2: 0.25})
      [2]
    """
    scored = [step for step in steps if step in scores]
    best = max(scored, key=lambda step: (scores[step], step), default=None)
    return [step for step in steps[:-keep] if step != best]
