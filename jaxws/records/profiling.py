"""A trace of some steps by JAX's profiler: where the time of a step goes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import jax

from jaxws.config.checks import parse_steps


class Trace:
    """Traces the steps asked for, and evaluations between them; every other step passes untouched.

    Before the first and after the last one the device is awaited, so that the trace has these steps
    and no others.
    """

    def __init__(self, steps: str | None, directory: Path, tell: Callable[[str], None]):
        """Waits for the first step.

        Args:
          steps: as :func:`parse_steps` reads them; None for no trace.
          directory: to write below.
          tell: is told in a line where the trace is, or why there is none.
        """
        self._steps = range(0) if steps is None else parse_steps(steps)
        self._directory, self._tell, self._first = directory, tell, -1

    def resume_from(self, step: int, last_step: int) -> None:
        """Says so at the beginning if there will be nothing to trace.

        Args:
          step: number of steps that are done.
          last_step: at which the run ends.
        """
        steps, asked = self._steps, f"config.profile={self._steps.start}:{self._steps.stop}"
        if steps and step >= steps.stop:
            self._tell(f"{asked}: no trace, these steps were done before this start ({step} are).")
        elif steps and last_step <= steps.start:
            self._tell(f"{asked}: no trace, the run ends after {last_step} steps.")

    def dispatch(self, step: int, pending: Any) -> AbstractContextManager[Any]:
        """What to dispatch a step in.

        Args:
          step: number of steps before this one.
          pending: results of the step before this one, or None.

        Returns:
          A context; inside the trace it marks the step for the profiler's viewers.
        """
        if step in self._steps:
            if self._first < 0:
                jax.block_until_ready(pending)
                jax.profiler.start_trace(self._directory)
                self._first = step
            return jax.profiler.StepTraceAnnotation("train", step_num=step)
        if self._first >= 0:
            jax.block_until_ready(pending)
            self._stop(step)
        return nullcontext()

    def done(self, step: int) -> None:
        """The results of a step are there.

        Args:
          step: number of steps done.
        """
        if self._first >= 0 and step >= self._steps.stop:
            self._stop(step)

    def close(self) -> None:
        """Writes what there is of a trace if the run ends within it."""
        if self._first >= 0:
            self._stop(None)

    def _stop(self, end: int | None) -> None:
        first, self._first, self._steps = self._first, -1, range(0)
        until = "the end of the run" if end is None else end - 1
        try:
            jax.profiler.stop_trace()
        except (OSError, RuntimeError) as error:  # such as a full disk: the run goes on
            self._tell(f"warning: the trace of steps {first} to {until} is lost: {error}")
            return
        files = sorted(self._directory.glob("plugins/profile/*/*.trace.json.gz"))
        where = files[-1] if files else self._directory
        self._tell(
            f"trace of steps {first} to {until}: {where}; open it at https://ui.perfetto.dev,"
            f" or by `pip install xprof` and `xprof --logdir {self._directory}`"
        )
