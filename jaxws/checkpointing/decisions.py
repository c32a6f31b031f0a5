"""Decisions of process 0 about what lies on the disk, which all processes act upon."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from jaxws.parallel import processes

T = TypeVar("T")

_ERRORS = {"ValueError": ValueError, "OSError": OSError}


def decided(decide: Callable[[], T]) -> T:
    """Lets process 0 decide, and gives all what it decided; all call this at the same place.

    Args:
      decide: called in process 0 alone; gives what JSON holds as it is.

    Returns:
      What it gave.

    Raises:
      ValueError: it has raised one; in all processes.
      OSError: likewise.

    Example:
      >>> decided(lambda: 7)
      7
    """
    if processes.count() == 1:
        return decide()
    if not processes.is_first():
        taken: T = _taken(processes.broadcast(None, "decision"))
        return taken
    try:
        value = decide()
    except (ValueError, OSError) as error:
        kind = "OSError" if isinstance(error, OSError) else "ValueError"
        processes.broadcast(json.dumps([kind, str(error)]), "decision")
        raise
    processes.broadcast(json.dumps(["", value]), "decision")
    return value


def all_succeed(act: Callable[[], T]) -> T:
    """Lets every process act, and fails in all if one has failed.

    Args:
      act: called in every process.

    Returns:
      What it gave in this one.

    Raises:
      ValueError: it has raised one somewhere; that of the process of the lowest number.

    Example:
      >>> all_succeed(lambda: 7)
      7
    """
    if processes.count() == 1:
        return act()
    result, error = None, None
    try:
        result = act()
    except ValueError as raised:
        error = raised
    messages = processes.gather("" if error is None else str(error), "success")
    if error is None and not any(messages):
        return result  # type: ignore[return-value]
    number, message = next(pair for pair in enumerate(messages) if pair[1])
    raise ValueError(f"process {number}: {message}") from error


def _taken(answer: str) -> Any:
    kind, value = json.loads(answer)
    if kind:
        raise _ERRORS[kind](value)
    return value
