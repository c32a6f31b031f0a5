"""How the processes of a run get at the files of one another's checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from jaxws.checkpointing.unfinished import check_shared, check_unfinished


class Exchange(Protocol):
    """What is done with files before another process reads them; all of it may raise OSError."""

    def check(self, checkpoints: Path) -> None:
        """Looks, in all processes, whether this way of exchange works; makes the directory."""

    def begin(self, directory: Path) -> None:
        """Before a process writes its arrays into a directory that process 0 has made."""

    def give(self, directory: Path) -> None:
        """After a process has written its arrays there, and before process 0 is told so."""

    def collect(self, directory: Path) -> None:
        """In process 0, when all have written theirs."""

    def offer(self, checkpoint: Path) -> None:
        """In process 0, before the others are to read a checkpoint."""

    def take(self, checkpoint: Path) -> None:
        """In each process, before it reads a checkpoint that was offered."""


class OneFileSystem:
    """The directory is one that all processes see: nothing is to be exchanged.

    Example:
      >>> OneFileSystem().give(Path("checkpoints/7"))
    """

    def check(self, checkpoints: Path) -> None:
        """Raises ValueError where a process has another directory of this name."""
        check_shared(checkpoints)

    def begin(self, directory: Path) -> None:
        """Raises where this process does not see the directory."""
        check_unfinished(directory)

    def give(self, directory: Path) -> None:
        """It is there."""

    def collect(self, directory: Path) -> None:
        """It is there."""

    def offer(self, checkpoint: Path) -> None:
        """It is there."""

    def take(self, checkpoint: Path) -> None:
        """It is there."""
