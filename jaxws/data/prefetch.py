"""A thread that makes the next items while the present one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# How soon a signal is seen by one who waits.
_POLL_SECONDS = 0.2


class Prefetch(Iterator[T], Generic[T]):
    """An iterator whose next items are made by a thread, a number of them ahead.

    Example:
      >>> with Prefetch(iter("abc"), ahead=2) as letters:
      ...     list(letters)
      ['a', 'b', 'c']
    """

    def __init__(
        self, items: Iterator[T], ahead: int, while_waiting: Callable[[], None] = lambda: None
    ):
        """Starts to make items.

        Args:
          items: where they come from; only the thread calls it from now on. If it has a method
            ``close``, the thread calls that at the end. If it has a method ``interrupt``, which
            ends a long wait within ``next``, that is called to close it.
          ahead: at most so many items are held that nobody has asked for yet.
          while_waiting: called again and again while the next item is waited for; may raise, to
            stop.

        Raises:
          ValueError: if ``ahead`` is not positive.
        """
        if ahead < 1:
            raise ValueError(f"prefetch is {ahead!r}, expected a whole number, 1 or more")
        self._items, self._while_waiting = items, while_waiting
        self._room = threading.Semaphore(ahead)
        self._made: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
        self._closed = False
        self._end: BaseException | None = None
        self._thread = threading.Thread(target=self._make, name="prefetch", daemon=True)
        self._thread.start()

    def _make(self) -> None:
        try:
            while True:
                self._room.acquire()
                if self._closed:
                    return
                self._made.put((next(self._items), None))
        except BaseException as error:  # StopIteration too: the one who asks gets it
            self._made.put((None, error))
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()

    def ready(self) -> bool:
        """Whether the next item, or the end, is there already."""
        return self._end is not None or not self._made.empty()

    def __next__(self) -> T:
        """Waits for the next item.

        Returns:
          The item.

        Raises:
          StopIteration: after the last one, or when closed.
          BaseException: whatever went wrong in the thread.
        """
        if self._closed or self._end is not None:
            raise self._end or StopIteration
        item, self._end = self._wait()
        if self._end is not None:
            raise self._end
        self._room.release()
        return item  # type: ignore[return-value]

    def _wait(self) -> tuple[T | None, BaseException | None]:
        while True:
            try:
                return self._made.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                self._while_waiting()

    def close(self) -> None:
        """Ends the thread, once the item that it is making is done, and drops what is left."""
        self._closed = True
        self._room.release()
        interrupt = getattr(self._items, "interrupt", lambda: None)
        while self._thread.is_alive():
            interrupt()
            self._thread.join(_POLL_SECONDS)
        while not self._made.empty():
            self._made.get()

    def __enter__(self) -> Prefetch[T]:
        """Returns the iterator itself."""
        return self

    def __exit__(self, *exception: Any) -> None:
        """Closes it."""
        self.close()
