"""Directories that checkpoints are written into, before they are whole and get their names."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from functools import partial
from pathlib import Path

from jaxws.checkpointing.decisions import all_succeed, decided
from jaxws.parallel import processes

STATE = "state"
# Orbax's processes wait for process 0 to make this one, also where that has failed.
_NOTES = Path(STATE) / "array_metadatas"
_UNFINISHED = ".orbax-checkpoint-tmp"
_TRIES, _PAUSE_S = 10, 0.05  # to remove one


def make_unfinished(path: Path, step: int) -> str:
    """Makes a directory to write a checkpoint into.

    Args:
      path: a directory of checkpoints.
      step: of the checkpoint.

    Returns:
      Its name, which is used once: arrays of a save that has failed may be on their way still.

    Raises:
      OSError: it cannot be made.
    """
    name = f"{step}{_UNFINISHED}-{secrets.token_hex(4)}"
    (path / name / _NOTES).mkdir(parents=True)
    return name


def check_unfinished(directory: Path) -> None:
    """Raises if this process does not see a directory, where TensorStore would make another one.

    Args:
      directory: of :func:`make_unfinished`.

    Raises:
      OSError: it is not there.
    """
    (directory / _NOTES).stat()


def remove_unfinished(path: Path) -> None:
    """Removes what saves have left that were killed or have failed.

    Args:
      path: a directory of checkpoints.
    """
    for directory in path.glob(f"*{_UNFINISHED}*"):
        # Arrays that were being written as the first one failed may put a file back meanwhile.
        for _ in range(_TRIES):
            shutil.rmtree(directory, ignore_errors=True)
            if not os.path.lexists(directory):
                break
            time.sleep(_PAUSE_S)


def check_shared(path: Path) -> None:
    """Raises in all processes if one of them does not see what process 0 makes.

    Args:
      path: a directory of checkpoints.

    Raises:
      ValueError: one does not; in one line.
    """
    if processes.count() == 1:
        return
    probe = path / decided(partial(make_unfinished, path, 0))

    def look() -> None:
        if not probe.is_dir():
            raise ValueError(
                f"{path} is not the directory that process 0 has of this name. Give a --workdir on"
                " a file system that all processes share."
            )

    try:
        all_succeed(look)
    finally:
        if processes.is_first():
            remove_unfinished(path)
