"""How fast steps follow one another, and how long the rest of a run will take."""

from __future__ import annotations

import time
from typing import Any, NamedTuple, Protocol


class _Waits(Protocol):
    waited: float


class _Mark(NamedTuple):
    """Where a run is: what has been done and how much time it took, since some beginning."""

    seconds: float
    waited: float
    steps: int
    images: float


class Pace:
    """Measures stretches of steps that nothing but training interrupts, such as epochs.

    The first step of a process compiles and is left out; evaluations and checkpoints lie between
    stretches and are measured apart, so that the time left can count them.

    Example:
      >>> class Waits:
      ...     waited = 0.0
      >>> pace = Pace()
      >>> pace.begin(Waits())
      >>> pace.step(images=8)  # compiles
      >>> pace.lap()
      {'step_seconds': None, 'images_per_second': None, 'data_wait': None}
      >>> pace.step(images=8)
      >>> pace.lap()["data_wait"]
      0.0
    """

    def __init__(self) -> None:
        """Starts with nothing measured."""
        self._steps, self._images, self._compiled = 0, 0.0, False
        self._trained, self._measured = 0.0, 0  # seconds and steps of the stretches that are over
        self._between: float | None = None
        self._end: float | None = None

    def begin(self, waits: _Waits) -> None:
        """A stretch of steps begins.

        Args:
          waits: knows how long the stretch's steps waited for input.
        """
        self._waits = waits
        if self._end is not None:
            self._between = time.perf_counter() - self._end
        self._begin = self._lap = self._now()

    def step(self, images: float) -> None:
        """The results of a step are there.

        Args:
          images: that it saw.
        """
        self._steps, self._images = self._steps + 1, self._images + images
        if not self._compiled:
            self._compiled, self._begin = True, self._now()
            self._lap = self._begin

    def end(self) -> None:
        """The stretch is over: evaluation and checkpoint come next."""
        now = self._now()
        self._trained += now.seconds - self._begin.seconds
        self._measured += now.steps - self._begin.steps
        self._end, self._begin = now.seconds, now

    def lap(self) -> dict[str, Any]:
        """Rates since the last call, or since the stretch began."""
        last, self._lap = self._lap, self._now()
        return _rates(last, self._lap)

    def stretch(self) -> dict[str, Any]:
        """Rates since the stretch began."""
        return _rates(self._begin, self._now())

    def seconds_left(self, steps: int, breaks: int) -> float | None:
        """How long the rest takes, if it goes on like this process so far.

        Args:
          steps: that are left.
          breaks: evaluations, with their checkpoints, that are left; they count as long as the last
            one took, once there was one.

        Returns:
          Seconds, or None while nothing has been measured.
        """
        now = self._now()
        trained = self._trained + now.seconds - self._begin.seconds
        measured = self._measured + now.steps - self._begin.steps
        if not measured:
            return 0.0 if steps == 0 else None
        return trained / measured * steps + (self._between or 0.0) * breaks

    def _now(self) -> _Mark:
        return _Mark(time.perf_counter(), self._waits.waited, self._steps, self._images)


def _rates(begin: _Mark, end: _Mark) -> dict[str, Any]:
    seconds, steps = end.seconds - begin.seconds, end.steps - begin.steps
    if not steps:
        return dict.fromkeys(("step_seconds", "images_per_second", "data_wait"))
    return {
        "step_seconds": seconds / steps,
        "images_per_second": (end.images - begin.images) / seconds,
        "data_wait": (end.waited - begin.waited) / seconds,
    }
