"""What a record of a run, and a session of it, must be: JSON may hold anything, and disks decay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_MAX_STEP = 2**31 - 1  # of an int32, which counts them
_TEXTS = ("event", "message")
_NUMBERS = (
    *("epoch", "skipped", "learning_rate", "grad_norm", "loss_scale"),
    *("smoothness_loss", "similarity_loss"),
    *("step_seconds", "images_per_second", "data_wait", "device_memory_bytes"),
)
# What reports read of a session, and its type; a number is finite and not negative.
_SESSION = {
    **dict.fromkeys(("first_step", "last_step"), "step"),
    **dict.fromkeys(("started", "command"), str),
    "seconds": "number",
    "versions": dict,
    "machine": dict,
}


def check_record(record: Any) -> dict[str, Any]:
    """Checks a record of metrics.jsonl.

    Args:
      record: what a line holds.

    Returns:
      The record.

    Raises:
      ValueError: it is no record; in few words that say why.

    Example:
      >>> check_record({"kind": "train", "step": "7"})
      Traceback (most recent call last):
      ValueError: 'step' is '7', not a number of steps
    """
    _expect(isinstance(record, dict), f"it is {_short(record)}, not an object")
    kind, step = record.get("kind"), record.get("step")
    _expect(isinstance(kind, str), f"'kind' is {_short(kind)}, not a name")
    _expect(_is_step(step), f"'step' is {_short(step)}, not a number of steps")
    if kind == "event":
        for key in _TEXTS:
            _expect(isinstance(record.get(key, ""), str), f"{key!r} is {_short(record.get(key))}")
    elif kind in ("train", "epoch"):
        for key, value in record.items():
            if key in _NUMBERS or key.startswith(("train_", "test_")):
                good = _is_number(value) or (value is None and key != "epoch")
                _expect(good, f"{key!r} is {_short(value)}, not a number")
        layers = record.get("neg_log_snr", {})
        good = isinstance(layers, dict) and all(v is None or _is_number(v) for v in layers.values())
        _expect(good, f"'neg_log_snr' is {_short(layers)}, not numbers by layer")
    return record


def check_history(history: Any) -> list[dict[str, Any]]:
    """Checks records in their order.

    Args:
      history: what should be a list of them.

    Returns:
      The list.

    Raises:
      ValueError: one is none, or comes after a later one.

    Example:
      >>> check_history([{"kind": "epoch", "step": 8}, {"kind": "epoch", "step": 4}])
      Traceback (most recent call last):
      ValueError: 'step' of an epoch is 4 after 8
    """
    _expect(isinstance(history, list), f"it is {_short(history)}, not a list")
    order = Order()
    for record in history:
        order.check(check_record(record))
    return history


class Order:
    """Steps of records of a kind increase; events come when they come.

    Example:
      >>> order = Order()
      >>> order.check({"kind": "train", "step": 4})
      >>> order.check({"kind": "epoch", "step": 4})
    """

    def __init__(self) -> None:
        """Before the first record."""
        self._last: dict[str, int] = {}

    def check(self, record: Mapping[str, Any]) -> None:
        """Takes the next record.

        Args:
          record: see :func:`check_record`.

        Raises:
          ValueError: one of its kind was there of this step or of a later one.
        """
        kind, step = record["kind"], record["step"]
        if kind in ("train", "epoch"):
            last = self._last.get(kind, -1)
            _expect(step > last, f"'step' of {_ARTICLES[kind]} is {step} after {last}")
            self._last[kind] = step


_ARTICLES = {"train": "a training step", "epoch": "an epoch"}


def check_provenance(content: Any) -> dict[str, Any]:
    """Checks what provenance.json holds, as far as anything reads it.

    Args:
      content: of the file.

    Returns:
      The same.

    Raises:
      ValueError: what is wrong; in few words.

    Example:
      >>> check_provenance({"data": {}, "stretches": []})
      {'data': {}, 'stretches': []}
    """
    _expect(isinstance(content, dict), f"it is {_short(content)}, not an object")
    data, sessions = content.get("data"), content.get("stretches", [])
    _expect(data is None or isinstance(data, dict), f"'data' is {_short(data)}, not an object")
    _expect(isinstance(sessions, list), f"'stretches' is {_short(sessions)}, not a list")
    for session in sessions:
        _expect(isinstance(session, dict), f"a start is {_short(session)}, not an object")
        for key, kind in _SESSION.items():
            value = session.get(key)
            _expect(_is_a(kind, value), f"{key!r} of a start is {_short(value)}")
        for key in ("device", "platform", "cores"):
            _expect(key in session["machine"], f"'machine' of a start has no {key!r}")
        git = session.get("git")
        _expect("git" in session and (git is None or _is_git(git)), f"'git' is {_short(git)}")
    return content


def _is_git(git: Any) -> bool:
    return isinstance(git, dict) and isinstance(git.get("commit"), str) and "dirty" in git


def _is_a(kind: Any, value: Any) -> bool:
    if kind == "step":
        return _is_step(value)
    if kind == "number":
        return _is_number(value) and value >= 0
    return isinstance(value, kind)


def _is_step(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MAX_STEP


def _is_number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a huge number"
    return text if len(text) <= 40 else f"{text[:40]}..."


def _expect(good: bool, otherwise: str) -> None:
    if not good:
        raise ValueError(otherwise)
