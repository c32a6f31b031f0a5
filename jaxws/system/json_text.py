"""JSON that a program has written, read back strictly: a disk may return something else."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def parse_json(text: str | bytes) -> Any:
    """Reads JSON, and nothing that Python takes for it beyond the standard.

    Args:
      text: the JSON, in UTF-8.

    Returns:
      What it holds.

    Raises:
      ValueError: it is something else: not UTF-8, ``NaN`` or ``Infinity``, a name that comes twice
        in an object, or deeper than Python can read.

    Example:
      >>> parse_json(b'{"step": 7}')
      {'step': 7}
      >>> parse_json('{"step": NaN}')
      Traceback (most recent call last):
      ValueError: NaN is not JSON
    """
    if isinstance(text, bytes):
        text = text.decode()
    try:
        return json.loads(text, parse_constant=_refuse, object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name comes twice in an object")
    return found
