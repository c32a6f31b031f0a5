"""Work on many images: in threads, with a progress bar where somebody can see it."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
R = TypeVar("R")

# Fewer images than this are done before a bar could be read.
_WORTH_A_BAR = 2_000
# For small images, handing out a task costs as much as decoding one.
_IMAGES_PER_TASK = 64


def track(items: Iterable[T], description: str, total: int, weight: int = 1) -> Iterator[T]:
    """Pass items on, showing a bar on stderr if that is a terminal and there are many.

    Args:
        items: Anything to go through.
        description: What is being done, for the bar.
        total: The number of images.
        weight: The images that one item stands for.

    Yields:
        The items.

    Example:
        >>> list(track("ab", "Reading", total=2))
        ['a', 'b']
    """
    if total < _WORTH_A_BAR or not sys.stderr.isatty():
        yield from items
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(description, total=total)
        for item in items:
            yield item
            bar.advance(task, weight)


def map_in_tasks(
    pool: futures.Executor, function: Callable[[T], R], items: Sequence[T]
) -> Iterator[R]:
    """Like `pool.map(function, items)`, with many items to a task.

    Args:
        pool: Threads; Pillow decodes without holding the lock that they share.
        function: What to do with an item.
        items: The items.

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
