"""Work on many images in threads."""

from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# For small images, handing out a task costs as much as decoding one.
_IMAGES_PER_TASK = 64


def map_in_tasks(
    pool: futures.Executor, function: Callable[[T], R], items: Sequence[T]
) -> Iterator[R]:
    """Like ``pool.map(function, items)``, with many items to a task.

    Args:
      pool: threads; Pillow decodes without holding the lock that they share.
      function: what to do with an item.
      items: the items.

    Yields:
      The results, in the order of the items.

    Example:
      >>> with futures.ThreadPoolExecutor(2) as pool:
      ...     list(map_in_tasks(pool, str.upper, "abc"))
      ['A', 'B', 'C']
    """
    starts = range(0, len(items), _IMAGES_PER_TASK)
    tasks = [items[start : start + _IMAGES_PER_TASK] for start in starts]
    for results in pool.map(lambda task: [function(item) for item in task], tasks):
        yield from results
