"""A directory of checkpoints: which there are, and what is done about damage; without Orbax.

A good checkpoint is a directory whose name is its step and whose files agree with the checksums in
it. Two files, beside the directory and in it, name the last step that was written, so that it is
noticed if that or all of them are gone.
What only looks takes no lock and works while a run goes on.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxws.checkpointing.checksums import damaged_files
from jaxws.system.atomic import write_atomically

Damaged = Mapping[int, Sequence[str]]


def steps_in(path: Path) -> list[int]:
    """Steps that have a checkpoint, good or damaged, in ascending order.

    Args:
      path: a directory of checkpoints.

    Returns:
      The steps; none if there is no such directory.

    Raises:
      OSError: the directory, or one in it, is there and cannot be looked into.

    Example:
      >>> steps_in(Path("/nowhere"))
      []
    """
    return sorted(int(entry.name) for entry in _directories(path) if _is_step(entry.name))


def unrecognised_entries(checkpoints: Path) -> list[str]:
    """Names of what else lies beside checkpoints: damaged ones, and those being written.

    Args:
      checkpoints: directory of a run's checkpoints, which may be missing.

    Returns:
      Sorted names.
    """
    return sorted(entry.name for entry in _directories(checkpoints) if not _is_step(entry.name))


def _is_step(text: str) -> bool:
    """Whether this is how a step is written; int() would take ``0099`` and ``+5`` too."""
    return re.fullmatch(r"0|[1-9][0-9]{0,17}", text) is not None


def _directories(path: Path) -> list[Path]:
    try:
        return [entry for entry in path.iterdir() if _is_directory(entry)]
    except FileNotFoundError:
        return []


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:  # removed by the run meanwhile, or a link to nowhere
        return False


def verify(directory: Path) -> str:
    """Compares a checkpoint with its checksums; reads all of it.

    Args:
      directory: of the checkpoint.

    Returns:
      What is wrong with it; empty if it is good.

    Raises:
      ValueError: it cannot be read, which says nothing about whether it is good.
    """
    damaged = _damaged(directory)
    return f"{len(damaged)} of its files changed, such as {damaged[0]}" if damaged else ""


def checkpoint_dir(checkpoints: Path, step: int | None) -> Path:
    """The directory of a checkpoint that can be read.

    Args:
      checkpoints: directory of a run's checkpoints.
      step: its step; None for the newest.

    Returns:
      The directory.

    Raises:
      ValueError: there is none of this step, or it is damaged.
    """
    steps = steps_in(checkpoints)
    if not steps:
        raise ValueError(f"{checkpoints} has no checkpoint yet.")
    known = f"there are those of steps {', '.join(map(str, steps))}; choose one by --step"
    if step is not None and step not in steps:
        raise ValueError(f"{checkpoints} has no checkpoint of step {step}: {known}.")
    directory = checkpoints / str(steps[-1] if step is None else step)
    if wrong := verify(directory):
        raise ValueError(f"checkpoint {directory} is damaged: {wrong}; {known}.")
    return directory


def record_latest(path: Path, step: int) -> None:
    """Notes the last step that was written; a full disk leaves an older one noted.

    Args:
      path: a directory of checkpoints.
      step: the step.
    """
    for file in _records_of_latest(path):
        with contextlib.suppress(OSError):
            write_atomically(file, f"{step}\n")


def recorded_latest(path: Path) -> int | None:
    """The last step that was written, whether its checkpoint is still there or not.

    Args:
      path: a directory of checkpoints.

    Returns:
      The step; None if none ever was, as far as is known.
    """
    for file in _records_of_latest(path):
        with contextlib.suppress(OSError):
            text = file.read_bytes().decode(errors="replace").removesuffix("\n")
            if _is_step(text):
                return int(text)
    return None


def _was_written(path: Path) -> bool:
    """Whether there ever was a checkpoint, also where what names it is damaged."""
    return any(os.path.lexists(file) for file in _records_of_latest(path))


def _damaged(directory: Path) -> list[str]:
    try:
        return damaged_files(directory)
    except OSError as error:
        raise ValueError(
            f"checkpoint {directory} cannot be read ({error}), which does not mean that it is"
            " damaged: see to that, and give the same command again. Nothing was changed."
        ) from error


def _records_of_latest(path: Path) -> tuple[Path, Path]:
    """Beside the directory, as it may vanish as a whole, and in it, as it may be copied."""
    return path.with_name(f"{path.name}.newest"), path / "newest"


def latest_valid(path: Path) -> tuple[int | None, Damaged]:
    """Looks for the newest checkpoint that is good.

    Args:
      path: a directory of checkpoints.

    Returns:
      Its step, and which newer ones are damaged in which files; None if none was ever written.

    Raises:
      ValueError: there were checkpoints and none is good, or one cannot be read; in one line that
        says what was found.
    """
    damaged: dict[int, list[str]] = {}
    for step in reversed(steps_in(path)):
        if not (files := _damaged(path / str(step))):
            return step, damaged
        damaged[step] = files
    if not damaged and not _was_written(path):
        return None, {}
    latest = recorded_latest(path)
    found = "; ".join(f"{step} is damaged, {_few(files)}" for step, files in damaged.items())
    known = "the last one" if latest is None else f"that of step {latest}"
    found = found or f"{known} is gone, and there is no other"
    raise ValueError(
        f"no good checkpoint is left in {path}: {found}. Nothing was changed. Bring one back, or"
        " start anew with another --workdir."
    )


def quarantine(path: Path, damaged: Damaged, good: int) -> list[str]:
    """Renames damaged checkpoints; nothing is deleted.

    Args:
      path: a directory of checkpoints.
      damaged: those that :func:`latest_valid` found.
      good: the step that it found.

    Returns:
      A line about each of them, and about the newest one if that is gone.
    """
    lost = {step: f"is damaged, {_few(files)}" for step, files in damaged.items()}
    for step in damaged:
        aside = _free_name(path / f"{step}.damaged")
        (path / str(step)).rename(aside)
        lost[step] += f", and was set aside as {aside}"
    latest = recorded_latest(path) or good
    if latest > max([good, *damaged]):
        lost[latest] = "is gone"
    if lost:
        record_latest(path, good)
    return [f"checkpoint {path / str(step)} {what}" for step, what in lost.items()]


def _few(files: Sequence[str]) -> str:
    number = "one of its files" if len(files) == 1 else f"{len(files)} of its files"
    return f"{number} changed since it was written: {files[0]}" + (", ..." if files[1:] else "")


def _free_name(path: Path) -> Path:
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}.{number}")
    return candidate
