"""How fast steps follow one another, how long they wait for input, and how long the rest takes."""

from __future__ import annotations

import time
from typing import Any, NamedTuple, Protocol

import jax

from jaxws.data import Prefetch

_NOTHING = dict.fromkeys(("step_seconds", "images_per_second", "data_wait"))


class InputTimer:
    """Takes a run's inputs, and measures the time in which nothing was left to compute.

    Steps are dispatched ahead of the device, so that waiting in the program need not be waiting of
    the device. Where the next input is not there yet, the steps that were dispatched are awaited
    first, as nothing else can be done; only what comes after counts.

    Attributes:
      seconds: waited since the beginning.

    Example:
      >>> with Prefetch(iter([3]), ahead=1) as inputs:
      ...     timer = InputTimer(inputs)
      ...     timer.next(pending=None)
      3
      >>> timer.seconds >= 0
      True
    """

    def __init__(self, inputs: Prefetch[Any]):
        """Starts at zero.

        Args:
          inputs: what the steps need.
        """
        self._inputs, self.seconds = inputs, 0.0

    def next(self, pending: Any) -> Any:
        """Returns the input of the next step.

        Args:
          pending: results of the last step that was dispatched, or None.
        """
        if not self._inputs.ready():
            jax.block_until_ready(pending)
        begin = time.perf_counter()
        inputs = next(self._inputs)
        self.seconds += time.perf_counter() - begin
        return inputs


class _Waited(Protocol):
    seconds: float


class _Mark(NamedTuple):
    """Where a run is: what has been done and how much time it took, since some beginning."""

    seconds: float
    waited: float
    steps: int
    images: float


class Throughput:
    """Measures epochs: steps that nothing but training interrupts.

    The first step of a process compiles and is left out; evaluations and checkpoints lie between
    epochs and are measured apart, so that the time left can count them.

    Attributes:
      last_epoch: rates of the epoch that ended last; None where nothing was measured.

    Example:
      >>> class Timer:
      ...     seconds = 0.0
      >>> throughput = Throughput(Timer())
      >>> throughput.begin()
      >>> throughput.step(images=8)  # compiles
      >>> throughput.since_log()
      {'step_seconds': None, 'images_per_second': None, 'data_wait': None}
      >>> throughput.step(images=8)
      >>> throughput.since_log()["data_wait"]
      0.0
    """

    def __init__(self, timer: _Waited):
        """Starts with nothing measured.

        Args:
          timer: knows how many seconds steps have waited for input, as :class:`InputTimer` does.
        """
        self._timer = timer
        self._steps, self._images, self._compiled, self._in_epoch = 0, 0.0, False, False
        self._trained, self._measured = 0.0, 0  # seconds and steps of the epochs that are over
        self._between: float | None = None  # seconds of the last evaluation
        self._end: float | None = None
        self._begin = self._log = self._now()
        self.last_epoch: dict[str, Any] = dict(_NOTHING)

    def begin(self, evaluated: bool = True) -> None:
        """The steps of an epoch begin.

        Args:
          evaluated: whether there was an evaluation since the last one's, if there was one.
        """
        self._begin = self._log = self._now()
        self._in_epoch = True
        if self._end is not None and evaluated:
            self._between = self._begin.seconds - self._end

    def step(self, images: float) -> None:
        """The results of a step are there.

        Args:
          images: number that it saw.
        """
        self._steps, self._images = self._steps + 1, self._images + images
        if not self._compiled:
            self._compiled = True
            self._begin = self._log = self._now()

    def end(self) -> None:
        """The steps of the epoch are over: evaluation and checkpoint come next."""
        now = self._now()
        self.last_epoch = _rates(self._begin, now)
        self._trained += now.seconds - self._begin.seconds
        self._measured += now.steps - self._begin.steps
        self._end, self._begin, self._in_epoch = now.seconds, now, False

    def since_log(self) -> dict[str, Any]:
        """Rates since the last call, or since the epoch began."""
        last, self._log = self._log, self._now()
        return _rates(last, self._log)

    def since_epoch(self) -> dict[str, Any]:
        """Rates since the epoch began."""
        return _rates(self._begin, self._now())

    def seconds_left(self, steps: int, evaluations: int) -> float | None:
        """How long the rest takes, if it goes on like this process so far.

        Args:
          steps: number that are left.
          evaluations: number that are left, with their checkpoints; they count as long as the last
            one took, once there was one.

        Returns:
          Seconds, or None while nothing has been measured.
        """
        now = self._now() if self._in_epoch else self._begin
        trained = self._trained + now.seconds - self._begin.seconds
        measured = self._measured + now.steps - self._begin.steps
        if not measured:
            return 0.0 if steps == 0 else None
        return trained / measured * steps + (self._between or 0.0) * evaluations

    def _now(self) -> _Mark:
        return _Mark(time.perf_counter(), self._timer.seconds, self._steps, self._images)


def _rates(begin: _Mark, end: _Mark) -> dict[str, Any]:
    seconds, steps = end.seconds - begin.seconds, end.steps - begin.steps
    if not steps:
        return dict(_NOTHING)
    return {
        "step_seconds": seconds / steps,
        "images_per_second": (end.images - begin.images) / seconds,
        "data_wait": (end.waited - begin.waited) / seconds,
    }
