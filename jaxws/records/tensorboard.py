"""A run's numbers for TensorBoard, written without TensorFlow."""

from __future__ import annotations

import importlib.util
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

FLUSH_SECONDS = 10  # TensorBoard is behind by as much at most
# What a point's place and name are made of.
_NOT_DRAWN = ("kind", "step", "epoch")


def check_installed() -> None:
    """Checks that there is something to write with.

    Raises:
      ValueError: tensorboardX is missing.
    """
    if importlib.util.find_spec("tensorboardX") is None:
        raise ValueError(
            "config.tensorboard=True needs tensorboardX, which is not installed:"
            " pip install tensorboardX, or leave it off: metrics.jsonl has all numbers."
        )


class TensorBoard:
    """An event file of its own for each start of a run; TensorBoard joins them.

    Events are written by the thread that brings them: a full disk is told and ends the drawing, not
    the run.
    """

    def __init__(self, directory: Path, first_step: int, warn: Callable[[str], None]):
        """Opens a new event file.

        Args:
          directory: of the run's event files; made if missing.
          first_step: from which the run starts or resumes; later points are forgotten.
          warn: is told when a file cannot be written.
        """
        from tensorboardX.event_file_writer import EventsWriter  # noqa: PLC0415 - optional
        from tensorboardX.proto import event_pb2  # noqa: PLC0415

        self._proto, self._warn = event_pb2, warn
        self._directory, self._flushed = directory, time.monotonic()
        self._writer: EventsWriter | None = None
        with self._giving_up_on_errors():
            directory.mkdir(exist_ok=True)
            # The name has whole seconds: two starts within one must not write over each other.
            self._writer = EventsWriter(str(directory / "events"), f".{os.getpid()}.{first_step}")
        # TensorBoard forgets the points of later steps, which will be drawn again.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(first_step + 1, session_log=start)

    def add(self, record: Mapping[str, Any]) -> None:
        """Draws a record of metrics.jsonl; what is not finite is left out, as it is null there.

        Args:
          record: of kind ``train`` or ``epoch``. The point ``train/grad_norm`` is ``grad_norm`` of
            a record of kind ``train``.
        """
        values = [{"tag": tag, "simple_value": value} for tag, value in points(record)]
        self._write(record["step"], summary={"value": values})
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self._flushed = time.monotonic()
            with self._giving_up_on_errors():
                self._writer and self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        with self._giving_up_on_errors():
            self._writer and self._writer.close()
        self._writer = None

    def _write(self, step: int, **content: Any) -> None:
        event = self._proto.Event(step=step, wall_time=time.time(), **content)
        with self._giving_up_on_errors():
            self._writer and self._writer.write_event(event)

    @contextmanager
    def _giving_up_on_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            writer, self._writer = self._writer, None
            with suppress(OSError):
                writer and writer.close()
            self._warn(
                f"warning: {self._directory} cannot be written ({error}): TensorBoard gets no more"
                " points; training goes on, and metrics.jsonl has them all."
            )


def points(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The finite numbers of a record.

    Args:
      record: of metrics.jsonl.

    Yields:
      Pairs of tag and number.

    Example:
      >>> record = {"kind": "train", "step": 3, "train_loss": 0.5, "data_wait": None,
      ...           "neg_log_snr": {"layer1_0/conv1": -1.5}}
      >>> list(points(record))
      [('train/train_loss', 0.5), ('neg_log_snr/layer1_0/conv1', -1.5)]
    """
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}/{name}", v) for name, v in value.items() if _is_number(v))
        elif key not in _NOT_DRAWN and _is_number(value):
            yield f"{record['kind']}/{key}", value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
