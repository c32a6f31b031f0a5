"""Work on many images: in threads, with a progress bar, or with a line now and then in a log."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
R = TypeVar("R")

# Fewer images than this are done before a bar could be read.
_WORTH_A_BAR = 2_000
# Between the lines in a log.
LINE_SECONDS = 30.0
# For small images, handing out a task costs as much as decoding one.
_IMAGES_PER_TASK = 64


def track(items: Iterable[T], description: str, total: int, weight: int = 1) -> Iterator[T]:
    """Pass items on, telling on stderr how far that is if there are many.

    On a terminal that is a bar; elsewhere, as in the log of a batch job, a line every 30 seconds.

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
    if total < _WORTH_A_BAR:
        yield from items
        return
    if not sys.stderr.isatty():
        yield from _with_lines(items, description, total, weight)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(description, total=total)
        for item in items:
            yield item
            bar.advance(task, weight)


def _with_lines(items: Iterable[T], description: str, total: int, weight: int) -> Iterator[T]:
    said = time.monotonic()
    for count, item in enumerate(items):
        if time.monotonic() - said > LINE_SECONDS:
            said, done = time.monotonic(), min(count * weight, total)
            print(f"{description}: {done / total:.0%} of {total}", file=sys.stderr, flush=True)
        yield item


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
