"""What a run shows while it trains: a bar on a terminal, one line per epoch everywhere, a table."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress


class Progress:
    """Shows steps and epochs as they end.

    Example:
      >>> with Progress(last_step=2, first_step=0) as progress:
      ...     progress.step(1, {"train_loss": 2.3, "data_wait": 0.0})
    """

    def __init__(self, last_step: int, first_step: int):
        """Prepares the bar.

        Args:
          last_step: where the run ends.
          first_step: where it starts or resumes.
        """
        self._console = Console(file=sys.stdout)
        self._first, self._last, self._begin = first_step, last_step, time.monotonic()
        self._bar = RichProgress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("data wait {task.fields[wait]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(
            "", total=last_step, completed=first_step, loss="...", wait="..."
        )

    def __enter__(self) -> Progress:
        """Starts the bar."""
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends the bar."""
        self._bar.stop()

    def step(self, step: int, means: dict[str, float]) -> None:
        """Moves the bar.

        Args:
          step: number of steps done.
          means: of the last step's metrics, and the share of the epoch's time so far that steps
            waited for input.
        """
        loss, wait = f"{means['train_loss']:.3f}", f"{100 * means['data_wait']:.0f} %"
        self._bar.update(self._task, completed=step, loss=loss, wait=wait)

    def epoch(self, record: dict[str, Any], epochs: int) -> None:
        """Prints an epoch's line.

        Args:
          record: of kind ``epoch`` in metrics.jsonl.
          epochs: number of epochs of the run.
        """
        done = max(1, record["step"] - self._first)  # none where only an evaluation was left
        left = self._last - record["step"]
        seconds = round((time.monotonic() - self._begin) / done * left)
        self._console.print(
            f"epoch {record['epoch']:>{len(str(epochs))}.3g}/{epochs}"
            f"  loss {record['train_loss']:.4f}"
            f"  train {100 * record['train_top1']:5.2f} %"
            f"  test {100 * record['test_top1']:5.2f} %"
            f"  {record['images_per_second']:.0f} images/s"
            f"  data wait {100 * record['data_wait']:.0f} %  left {timedelta(seconds=seconds)}",
            highlight=False,
            soft_wrap=True,
        )


def summary_rows(record: dict[str, Any]) -> Sequence[tuple[str, str]]:
    """The rows of the table that ends a run.

    Args:
      record: the last record of kind ``epoch``.

    Returns:
      Pairs of name and text.

    Example:
      >>> record = {"epoch": 2, "step": 9, "train_loss": 1.0, "train_top1": 0.5, "test_loss": 2.0,
      ...           "test_top1": 0.25, "test_top5": 0.5, "images_per_second": 100.0}
      >>> summary_rows(record)[3]
      ('test top-1', '25.00 %')
    """
    return (
        ("epochs, steps", f"{record['epoch']:.4g}, {record['step']}"),
        ("training loss", f"{record['train_loss']:.4f}"),
        ("training top-1", f"{100 * record['train_top1']:.2f} %"),
        ("test top-1", f"{100 * record['test_top1']:.2f} %"),
        ("test top-5", f"{100 * record['test_top5']:.2f} %"),
        ("test loss", f"{record['test_loss']:.4f}"),
        ("images/s, last epoch", f"{record['images_per_second']:.0f}"),
    )
