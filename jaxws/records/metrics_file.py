"""metrics.jsonl: one JSON object a line, whole lines only, also on a full disk."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from jaxws.records.record_format import Order, check_record
from jaxws.records.summary import is_evaluated
from jaxws.system.atomic import open_in_place, read_plain, write_atomically
from jaxws.system.json_text import parse_json
from jaxws.system.text import say

# Keys that depend on the clock or the machine.
CLOCK = ("step_seconds", "images_per_second", "data_wait", "device_memory_bytes")

_HISTORY = ("epoch", "event")


class MetricsFile:
    """The metrics of a run.

    Attributes:
      history: records of kinds ``epoch`` and ``event`` so far.

    Example:
      >>> import tempfile
      >>> metrics = MetricsFile(Path(tempfile.mkdtemp()) / "metrics.jsonl")
      >>> metrics.append({"kind": "train", "step": 1, "train_loss": float("inf")})
      >>> list(metrics.records())
      [{'kind': 'train', 'step': 1, 'train_loss': None}]
    """

    def __init__(self, path: Path):
        """Touches nothing.

        Args:
          path: of the file.
        """
        self._metrics_file = path
        self.history: list[dict[str, Any]] = []
        self._unwritten: list[str] = []

    def write_rest(self) -> None:
        """Writes what a full disk has kept back.

        Raises:
          OSError: there is still no room.
        """
        if self._unwritten:
            self._write()

    def append(self, record: dict[str, Any]) -> None:
        """Adds a line to metrics.jsonl; numbers that are not finite become null.

        On a full disk, lines are kept in memory and written with a later one; the file always ends
        with a whole line.

        Args:
          record: the line, with at least ``kind`` and ``step``.
        """
        record = self.remember(record)
        self._unwritten.append(json.dumps(record, allow_nan=False) + "\n")
        try:
            self._write()
        except OSError as error:
            if len(self._unwritten) == 1:  # the first one that is kept back
                say(
                    f"warning: {self._metrics_file} cannot be written ({error.strerror}): records"
                    " are kept in memory until it can be.",
                    error=True,
                )

    def remember(self, record: dict[str, Any]) -> dict[str, Any]:
        """Adds a record to the history, if it is of a kind that belongs there.

        Args:
          record: as for :meth:`append`.

        Returns:
          The record as it is written: numbers that are not finite are None.
        """
        record = _finite(record)
        if record["kind"] in _HISTORY:
            self.history.append(record)
        return record

    def warn(self, step: int, event: str, message: str) -> None:
        """Tells of something that a run survives: on stderr, and as a record of kind ``event``.

        Args:
          step: number of steps done.
          event: what it is, in few words that stay the same.
          message: one line about it.
        """
        say(f"warning: {message}", error=True)
        self.append({"kind": "event", "step": step, "event": event, "message": message})

    def _write(self) -> None:
        """Writes what is still to be written, or nothing."""
        data = "".join(self._unwritten).encode()
        # Unbuffered: a buffer would try once more when it is closed.
        with open_in_place(self._metrics_file) as file:
            end = _end_of_lines(file)
            file.truncate(end)  # half a line may be left of a crash
            file.seek(end)
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(end)
                raise
        self._unwritten.clear()

    def records(self) -> Iterator[dict[str, Any]]:
        """Reads metrics.jsonl; a last line that was cut off by a crash is left out.

        Yields:
          The lines as dicts.

        Raises:
          ValueError: another line is not JSON, or one is no record.
        """
        for _, record in self._lines():
            yield record

    def _lines(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Whole lines, as they stand there and as dicts."""
        try:
            lines = read_plain(self._metrics_file).split(b"\n")[:-1]
        except FileNotFoundError:
            return
        order = Order()
        for number, line in enumerate(lines, start=1):
            try:
                found = parse_json(line)
            except ValueError as error:
                if number == len(lines):
                    return
                raise self._bad_line(number, f"is not JSON ({error})") from error
            try:
                order.check(check_record(found))
            except ValueError as error:
                raise self._bad_line(number, f"is no record of a run ({error})") from error
            yield line.decode() + "\n", found

    def _bad_line(self, number: int, what: str) -> ValueError:
        return ValueError(
            f"line {number} of {self._metrics_file} {what}: repair or remove it; nothing was"
            " changed."
        )

    def scores(self) -> dict[int, float]:
        """Top-1 on test images by step, so far."""
        scores = ((r["step"], r.get("test_top1")) for r in self.history)
        return {step: score for step, score in scores if score is not None}

    def resume_from(
        self,
        step: int,
        history: Sequence[dict[str, Any]] = (),
        *,
        ends: bool = False,
        evaluates: bool = False,
    ) -> None:
        """Drops metrics of steps to be done again, and of an epoch to be finished or evaluated.

        Args:
          step: the step that the run resumes from.
          history: records of earlier steps, which are put in where the file has lost them.
          ends: whether the run ends at this step, so that no epoch is to be finished.
          evaluates: whether the run is evaluated at this step: if an epoch that ends there was not,
            it is to be recorded again.

        Raises:
          ValueError: a line is not JSON or no record.
        """

        def stays(record: Mapping[str, Any]) -> bool:
            of_epoch = record["kind"] == "epoch"
            within = of_epoch and record.get("epoch", 0) % 1 != 0 and not ends
            lacks = of_epoch and record["step"] == step and evaluates and not is_evaluated(record)
            return record["step"] <= step and not within and not lacks

        lines = [*self._lines(), *((line, json.loads(line)) for line in self._unwritten)]
        lines = [(line, record) for line, record in lines if stays(record)]
        kept = [record for _, record in lines]
        ended = {r["step"] for r in kept if r["kind"] == "epoch"}  # maybe evaluated since
        lost = [r for r in history if stays(r) and r not in kept]
        lost = [r for r in lost if r["kind"] != "epoch" or r["step"] not in ended]
        if lost:
            lines += [(json.dumps(record) + "\n", record) for record in lost]
            lines.sort(key=lambda pair: pair[1]["step"])
        self.history = [record for _, record in lines if record["kind"] in _HISTORY]
        self._replace("".join(line for line, _ in lines).encode())
        self._unwritten.clear()

    def _replace(self, data: bytes) -> None:
        """Changes metrics.jsonl; shortens it where that will do, as a full disk allows that."""
        before = self._metrics_file.read_bytes() if self._metrics_file.exists() else b""
        if before.startswith(data):
            if before != data:
                with open_in_place(self._metrics_file) as file:
                    file.truncate(len(data))
        else:
            write_atomically(self._metrics_file, data.decode())


def timeless(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without what depends on the clock or the machine.

    What is left is the same in every run of a configuration on the same kind of machine, however
    often it was stopped.

    Args:
      record: of metrics.jsonl.

    Returns:
      A copy.

    Example:
      >>> timeless({"kind": "epoch", "step": 4, "images_per_second": 51.2})
      {'kind': 'epoch', 'step': 4}
    """
    return {key: value for key, value in record.items() if key not in CLOCK}


def _end_of_lines(file: BinaryIO) -> int:
    """Where the last whole line ends."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        file.seek(end - 1)
        if file.read(1) == b"\n":
            break
        end -= 1
    return end


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
