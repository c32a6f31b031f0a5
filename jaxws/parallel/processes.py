"""The processes that share a run: who is who, and what they tell one another besides arrays.

They talk through the coordination service of ``jax.distributed``, not through devices: it works
before there are any, and while those of one process are busy. One process alone needs none.

JAX shows a client of that service to libraries such as Orbax, and only in ``jax._src``; it has no
public name. This file is the only one that takes it from there.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

from jax._src import distributed

# Whoever never comes is noticed elsewhere (jaxws.parallel.links), and ends the wait.
_TIMEOUT_MS = 7 * 24 * 3600 * 1000

_lock = threading.Lock()
_uses: Counter[str] = Counter()


def index() -> int:
    """The number of this process, from 0.

    Unlike ``jax.process_index``, it can be asked before there are devices.

    Example:
      >>> index()
      0
    """
    return distributed.global_state.process_id


def count() -> int:
    """The number of processes.

    Example:
      >>> count()
      1
    """
    return distributed.global_state.num_processes


def is_first() -> bool:
    """Whether this is process 0, which owns the directory of the run and the terminal.

    Example:
      >>> is_first()
      True
    """
    return index() == 0


def barrier(name: str) -> None:
    """Waits until all processes are here.

    Args:
      name: of the place; threads that may wait at once need names of their own.

    Example:
      >>> barrier("here")  # alone
    """
    if count() > 1:
        _client().wait_at_barrier(_key(name), _TIMEOUT_MS)


def broadcast(text: str | None, name: str = "broadcast") -> str:
    """Gives what process 0 has to all; waits until all are here.

    Args:
      text: what process 0 gives; the others' is not looked at.
      name: as in :func:`barrier`.

    Returns:
      The text of process 0.

    Raises:
      ValueError: process 0 gave none.

    Example:
      >>> broadcast("alone")
      'alone'
    """
    if is_first() and text is None:
        raise ValueError(f"process 0 has no text for the others at {name!r}; expected one.")
    return _exchange(text if is_first() else None, name)[0]


def gather(text: str, name: str = "gather") -> list[str]:
    """Gives what each process has to all; waits until all are here.

    Args:
      text: of this process.
      name: as in :func:`barrier`.

    Returns:
      The texts of all processes, in their order.

    Example:
      >>> gather("alone")
      ['alone']
    """
    return _exchange(text, name)


@contextlib.contextmanager
def first_alone(name: str) -> Iterator[None]:
    """Lets process 0 do something before the others do, which then may find it done.

    Args:
      name: as in :func:`barrier`.

    Example:
      >>> with first_alone("here"):
      ...     pass
    """
    if not is_first():
        barrier(name)
    yield
    if is_first():
        barrier(name)


class Notice:
    """What one process may have to tell all, once, whenever that is.

    All processes make their notices in the same order.

    Example:
      >>> notice = Notice("fire")
      >>> notice.post("on the second floor")  # alone: there is nobody to tell
    """

    def __init__(self, name: str):
        """Tells nothing.

        Args:
          name: of what may happen.
        """
        self._key = _key(name)

    def post(self, text: str) -> None:
        """Tells all; does nothing if that has been done, here or elsewhere.

        Args:
          text: what to tell.
        """
        if count() > 1:
            with contextlib.suppress(RuntimeError):  # it is there, or the others are gone
                _client().key_value_set(self._key, json.dumps(text))

    def wait(self) -> str:
        """Waits until a process tells something; for a thread, where there are several.

        Returns:
          Its text; empty where the others have gone.
        """
        try:
            return json.loads(_client().blocking_key_value_get(self._key, _TIMEOUT_MS))
        except RuntimeError:
            return ""


def _exchange(text: str | None, name: str) -> list[str]:
    """The texts of those processes that give one, in their order."""
    if count() == 1:
        return [] if text is None else [text]
    client, key, mine = _client(), _key(name), f"{index():06d}"
    if text is not None:
        # JSON is ASCII, while names of files may hold what UTF-8 does not.
        client.key_value_set(f"{key}/{mine}", json.dumps(text))
    client.wait_at_barrier(key, _TIMEOUT_MS)
    given = sorted(client.key_value_dir_get(f"{key}/"))
    # Nobody needs it after all have read it, and they have when all come to the next barrier.
    client.wait_at_barrier(f"{key}/read", _TIMEOUT_MS)
    if text is not None:
        client.key_value_delete(f"{key}/{mine}")
    return [json.loads(value) for _, value in given]


def _key(name: str) -> str:
    """A name that is used once; all processes count the uses alike."""
    with _lock:
        _uses[name] += 1
        return f"jaxws/{name}/{_uses[name]}"


def _client() -> Any:
    return distributed.global_state.client
