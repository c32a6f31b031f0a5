"""What a run shows while it trains: a bar on a terminal, now and then a line in a log, a table."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TimeElapsedColumn
from rich.text import Text

from jaxws.records.summary import is_evaluated, rate_text
from jaxws.system.terminal import Bar, duration

PATIENCE = 1.0  # seconds that a compilation may take before it is told


class Progress:
    """Shows steps and epochs as they end, and what takes long before the first of them.

    On a terminal, steps move a bar. In a log there is a line about them every half minute at most.
    Lines about epochs and events come everywhere.

    Example:
      >>> with Progress(last_step=2) as progress:
      ...     with progress.compiling("the training step"):
      ...         pass  # no line: it took no second
      ...     progress.start(step=0)
      ...     progress.step(1, {"train_loss": 2.3, "data_wait": 0.0}, seconds_left=5.0)
    """

    def __init__(self, last_step: int):
        """Prepares the bar, which is not seen before there is something to show.

        Args:
          last_step: where the run ends.
        """
        self._last = last_step
        self._bar = Bar(
            _Doing(),
            MofNCompleteColumn(),
            BarColumn(),
            "loss {task.fields[loss]}",
            "data wait {task.fields[wait]}",
            "elapsed",
            TimeElapsedColumn(),
            "left {task.fields[left]}",
            total=last_step,
            stderr=False,
            transient=False,
            visible=False,
            fields={"loss": "...", "wait": "...", "left": "...", "compiling": None},
        )

    def __enter__(self) -> Progress:
        """Starts the bar."""
        self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends the bar."""
        self._bar.__exit__(kind, error, traceback)

    def start(self, step: int) -> None:
        """Shows the bar.

        Args:
          step: number of steps that are done.
        """
        self._bar.update(completed=step, visible=True)

    @contextmanager
    def compiling(self, what: str) -> Iterator[None]:
        """To be held while something may have to be compiled; says so if it takes a second.

        Args:
          what: is compiled.
        """
        begin = time.monotonic()

        def tell() -> None:
            self._bar.update(compiling=begin, visible=True)
            if not self._bar.on_terminal:
                self.note(f"compiling {what} ...")

        timer = threading.Timer(PATIENCE, tell)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()  # it may be telling
            self._bar.update(compiling=None)
        if (seconds := time.monotonic() - begin) >= PATIENCE:
            self.note(f"compiled {what} in {seconds:.0f} s")

    def step(self, step: int, values: Mapping[str, Any], seconds_left: float | None) -> None:
        """Moves the bar, or prints a line if the last one is long ago.

        Args:
          step: number of steps done.
          values: the last step's ``train_loss``, and ``images_per_second`` and ``data_wait`` of the
            epoch so far; a rate is None if nothing was measured.
          seconds_left: until the run ends, or None if that is not known.
        """
        loss, wait, left = f"{values['train_loss']:.3f}", _wait(values), duration(seconds_left)
        self._bar.update(
            f"step {step}/{self._last}  loss {loss}  {rate_text(values)} images/s"
            f"  data wait {wait}  left {left}",
            completed=step,
            loss=loss,
            wait=wait,
            left=left,
        )

    def epoch(self, record: Mapping[str, Any], epochs: int, seconds_left: float | None) -> None:
        """Prints an epoch's line.

        Args:
          record: of kind ``epoch`` in metrics.jsonl.
          epochs: number of epochs of the run.
          seconds_left: until the run ends, or None if that is not known.
        """
        test = f"  test {100 * record['test_top1']:5.2f} %" if is_evaluated(record) else " " * 14
        self.note(
            f"epoch {record['epoch']:>{len(str(epochs))}.3g}/{epochs}"
            f"  loss {record['train_loss']:.4f}"
            f"  train {100 * record['train_top1']:5.2f} %"
            f"{test}"
            f"  {rate_text(record)} images/s"
            f"  data wait {_wait(record)}  left {duration(seconds_left)}"
        )

    def note(self, line: str) -> None:
        """Prints a line, above the bar if there is one.

        Args:
          line: plain text.
        """
        self._bar.print(line)


class _Doing(ProgressColumn):
    """What is being done, and how long a compilation has taken so far."""

    def render(self, task: Task) -> Text:
        begin = task.fields["compiling"]
        return Text("step" if begin is None else f"compiling {time.monotonic() - begin:.0f} s")


def _wait(values: Mapping[str, Any]) -> str:
    share = values.get("data_wait")
    return "..." if share is None else f"{100 * share:.0f} %"
