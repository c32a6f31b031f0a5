"""Schedules: the learning rate over epochs, and when weights are shared."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import optax


def step_decay(
    learning_rate: float,
    steps_per_epoch: int,
    drop_epochs: Sequence[int] = (100, 150),
    drop_factor: float = 4.0,
) -> optax.Schedule:
    """The paper's schedule: the rate is divided by 4 after epochs 100 and 150 (appendix B.1).

    Args:
      learning_rate: rate of the first epochs.
      steps_per_epoch: batches in an epoch, the ragged last one included.
      drop_epochs: the rate drops once so many epochs are over; see :func:`drop_epochs`.
      drop_factor: divides the rate.

    Returns:
      A function from step, counted from 0, to learning rate.

    Example:
      >>> schedule = step_decay(1e-3, steps_per_epoch=98)
      >>> print(f"{schedule(100 * 98 - 1):.6f} {schedule(100 * 98):.6f}")
      0.001000 0.000250
    """
    boundaries = {epoch * steps_per_epoch: 1 / drop_factor for epoch in drop_epochs}
    return optax.piecewise_constant_schedule(learning_rate, boundaries)


def drop_epochs(epochs: int) -> tuple[int, ...]:
    """When the rate drops in a run of so many epochs: after half and after three quarters of them.

    These are the paper's schedules of 200 epochs, (100, 150), and its compressed ones of 50 and 20
    for searches, and fractions of an epoch are left out as there.

    Args:
      epochs: of the run.

    Returns:
      Increasing epoch numbers from 1; fewer than two in runs that are too short.

    Example:
      >>> [drop_epochs(epochs) for epochs in (200, 50, 20)]
      [(100, 150), (25, 37), (10, 15)]
    """
    return tuple(sorted({epochs // 2, 3 * epochs // 4} - {0}))


def shares_after(step: jax.Array | int, every: int, steps_per_epoch: int) -> jax.Array | bool:
    """Whether ws(n) shares weights after this batch: batches 0, n, 2n, ... of every epoch.

    Args:
      step: number of batches before this one, from the start of training.
      every: n of ws(n); 0 is never.
      steps_per_epoch: batches in an epoch; the count starts again with each.

    Returns:
      A bool; an array if it depends on the step and ``step`` is one.

    Example:
      >>> [shares_after(step, every=3, steps_per_epoch=5) for step in range(7)]
      [True, False, False, True, False, True, False]
    """
    if every in (0, 1):
        return bool(every)
    return (step % steps_per_epoch) % every == 0
