"""A thread that makes the next items while the present one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Prefetch(Iterator[T], Generic[T]):
    """An iterator whose next items are made by a thread, a number of them ahead.

    Example:
      >>> with Prefetch(iter("abc"), ahead=2) as letters:
      ...     list(letters)
      ['a', 'b', 'c']
    """

    def __init__(self, items: Iterator[T], ahead: int):
        """Starts to make items.

        Args:
          items: where they come from; only the thread calls it from now on. If it has a method
            ``close``, the thread calls that at the end.
          ahead: at most so many items are held that nobody has asked for yet.

        Raises:
          ValueError: if ``ahead`` is not positive.
        """
        if ahead < 1:
            raise ValueError(f"prefetch is {ahead!r}, expected a whole number, 1 or more")
        self._items = items
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
        item, self._end = self._made.get()
        if self._end is not None:
            raise self._end
        self._room.release()
        return item  # type: ignore[return-value]

    def close(self) -> None:
        """Ends the thread, once the item that it is making is done, and drops what is left."""
        self._closed = True
        self._room.release()
        self._thread.join()
        while not self._made.empty():
            self._made.get()

    def __enter__(self) -> Prefetch[T]:
        """Returns the iterator itself."""
        return self

    def __exit__(self, *exception: Any) -> None:
        """Closes it."""
        self.close()
