"""The directory of a run: config.json says whose it is, metrics.jsonl what happened in it."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxws.config import differences, to_json


class Workdir:
    """A run's directory.

    Attributes:
      path: the directory.
      checkpoints: where checkpoints lie.
      resumed: whether the directory held this run before.
    """

    def __init__(self, path: str | os.PathLike[str], config: ConfigDict):
        """Opens the directory, or makes it; never changes one that belongs to something else.

        Args:
          path: the directory.
          config: of the run.

        Raises:
          ValueError: the directory cannot be made or written, holds other things, or holds a run
            with another configuration.
        """
        self.path = Path(path).expanduser().absolute()
        self.checkpoints = self.path / "checkpoints"
        self._config_file = self.path / "config.json"
        self._metrics_file = self.path / "metrics.jsonl"
        try:
            self.resumed = self._claim(config)
        except OSError as error:
            raise ValueError(
                f"workdir {self.path} cannot be used: {error.strerror or error}. Give a directory"
                " that can be written by --workdir."
            ) from error

    def _claim(self, config: ConfigDict) -> bool:
        self.path.mkdir(parents=True, exist_ok=True)
        if self._config_file.exists():
            self._refuse_other(config)
            return True
        if any(entry.name != "config.json.tmp" for entry in self.path.iterdir()):
            raise ValueError(
                f"workdir {self.path} is not empty and is not a run of jaxws (no config.json):"
                " nothing was changed. Give a new or empty directory by --workdir."
            )
        _write_atomically(self._config_file, to_json(config))
        return False

    def _refuse_other(self, config: ConfigDict) -> None:
        try:
            changed = differences(config, self._config_file.read_text())
        except (ValueError, AttributeError) as error:
            raise ValueError(
                f"{self._config_file} is not the JSON that jaxws writes ({error}): nothing was"
                " changed. Give another directory by --workdir."
            ) from error
        if changed:
            raise ValueError(
                f"workdir {self.path} holds a run with another configuration ("
                + "; ".join(changed)
                + "): nothing was changed. Give another directory by --workdir."
            )
        with tempfile.TemporaryFile(dir=self.path):
            pass  # an existing directory may have become unwritable

    def append(self, record: dict[str, Any]) -> None:
        """Adds a line to metrics.jsonl; numbers that are not finite become null.

        Args:
          record: the line, with at least ``kind`` and ``step``.
        """
        with self._metrics_file.open("a") as file:
            file.write(json.dumps(_finite(record), allow_nan=False) + "\n")

    def records(self) -> Iterator[dict[str, Any]]:
        """Reads metrics.jsonl; a last line that was cut off by a crash is left out.

        Yields:
          The lines as dicts.
        """
        if not self._metrics_file.exists():
            return
        for line in self._metrics_file.read_text().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                return

    def forget_after(self, step: int) -> None:
        """Drops the metrics of steps that will be done again.

        Args:
          step: the step that the run resumes from.
        """
        kept = [record for record in self.records() if record["step"] <= step]
        _write_atomically(self._metrics_file, "".join(json.dumps(r) + "\n" for r in kept))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)
