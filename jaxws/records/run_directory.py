"""A run as its directory tells it: read without its lock, also while it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxws.config.identity import from_json
from jaxws.records import provenance_file
from jaxws.records.metrics_file import MetricsFile
from jaxws.system.local_path import local_path


class RunDirectory(NamedTuple):
    """What a run left so far.

    Attributes:
      path: its directory.
      config: its configuration.
      dataset: facts that tell its data from others.
      records: of metrics.jsonl.
      provenance: see :mod:`jaxws.records.provenance`.
    """

    path: Path
    config: ConfigDict
    dataset: dict[str, Any]
    records: list[dict[str, Any]]
    provenance: dict[str, Any]

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.path / "checkpoints"

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Records of one kind.

        Args:
          kind: ``'train'``, ``'epoch'`` or ``'event'``.

        Returns:
          The records, in their order.
        """
        return [record for record in self.records if record["kind"] == kind]


def read_run(path: Path) -> RunDirectory:
    """Reads a run's directory.

    Args:
      path: the directory.

    Returns:
      What is there.

    Raises:
      ValueError: it is not a run's directory, or what is in it cannot be read.
    """
    path = local_path(path, "WORKDIR").absolute()
    file = path / "config.json"
    try:
        if not file.is_file():  # nor a pipe or device, which may never end
            raise FileNotFoundError(file)
        config, dataset = from_json(file.read_text())
    except FileNotFoundError as error:
        what = "has no config.json" if path.is_dir() else "does not exist"
        raise ValueError(f"{path} is not a run of jaxws: it {what}.") from error
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    records = list(MetricsFile(path / "metrics.jsonl").records())
    return RunDirectory(path, config, dataset, records, provenance_file.read(path))
