"""What a program shows while it works: a bar on a terminal, now and then a line in a log."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from jaxws.system.text import printable

T = TypeVar("T")

LINE_SECONDS = 30.0  # between lines about progress in a log, at least
# Fewer items than this are done before a bar could be read.
_WORTH_A_BAR = 2_000
_LONGEST = 10_000  # characters of a line, more than any has


class Bar:
    """How far a task is: a bar on a terminal; elsewhere, as in a batch job's log, lines.

    Example:
      >>> with Bar("{task.description}", BarColumn(), description="Reading", total=2) as bar:
      ...     bar.update("1 of 2", advance=1)  # no line: the task has just begun
    """

    def __init__(
        self,
        *columns: str | ProgressColumn,
        description: str = "",
        total: float,
        stderr: bool = True,
        transient: bool = True,
        visible: bool = True,
        fields: Mapping[str, Any] | None = None,
    ):
        """Prepares the bar, which is not seen before it is entered.

        Args:
          *columns: what the bar is made of, from left to right; strings are formats of plain text.
          description: of the task, for the columns.
          total: when the task is done, in any unit.
          stderr: writes to stderr; False for stdout.
          transient: removes the bar at its end.
          visible: shows it from its start; otherwise from an :meth:`update` of ``visible``.
          fields: more values for the columns.
        """
        self._console = Console(stderr=stderr)
        self.on_terminal = self._console.is_terminal
        shown = [TextColumn(c, markup=False) if isinstance(c, str) else c for c in columns]
        self._progress = Progress(
            *shown, console=self._console, transient=transient, disable=not self.on_terminal
        )
        self._task = self._progress.add_task(
            printable(description), total=total, visible=visible, **(fields or {})
        )
        self._printed = time.monotonic()

    def __enter__(self) -> Bar:
        """Starts the bar."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends the bar."""
        self._progress.stop()

    def update(self, line: str | None = None, **values: Any) -> None:
        """Moves the bar; where there is none, prints a line if the last one is long ago.

        Args:
          line: says how far the task is; None for nothing to print.
          **values: new ones of ``completed``, ``total``, ``description``, ``visible`` or of a field
            of the columns; ``advance`` is added to ``completed``.
        """
        if self.on_terminal:
            self._progress.update(self._task, **values)
        elif line is not None and time.monotonic() - self._printed >= LINE_SECONDS:
            self.print(line)

    def print(self, line: str) -> None:
        """Prints a line, above the bar if there is one.

        Args:
          line: plain text.
        """
        self._console.print(plain(line), soft_wrap=True)
        self._printed = time.monotonic()


def track(items: Iterable[T], description: str, total: int, weight: int = 1) -> Iterator[T]:
    """Passes items on, showing on stderr how far that is if there are many.

    Args:
      items: anything to go through.
      description: what is being done.
      total: number of items, or what they are made of, such as images.
      weight: how much of ``total`` one item stands for.

    Yields:
      The items.

    Example:
      >>> list(track("ab", "Reading", total=2))
      ['a', 'b']
    """
    if total < _WORTH_A_BAR:
        yield from items
        return
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, description=description, total=total) as bar:
        for count, item in enumerate(items):
            done = min(count * weight, total)
            bar.update(f"{description}: {done / total:.0%} of {total}", completed=done)
            yield item


def plain(text: object, style: str = "") -> Text:
    r"""Text for rich, in which nothing is taken for markup or an escape code.

    Args:
      text: anything.
      style: of all of it.

    Returns:
      The text, see :func:`jaxws.system.text.printable`.

    Example:
      >>> str(plain("w[/x]y"))
      'w[/x]y'
    """
    return Text(printable(text), style=style)


def print_table(
    rows: Iterable[Sequence[object]],
    title: str = "",
    head: Sequence[str] = (),
    *,
    last_is_text: bool = True,
) -> None:
    """Prints a table of plain text on stdout.

    Args:
      rows: of cells.
      title: above it.
      head: names of the columns, whose cells are then aligned right.
      last_is_text: the last column is aligned left all the same.

    Example:
      >>> print_table([("test[/x]", 0.5)])  # doctest: +ELLIPSIS
      ┌──────────┬─────┐
      ...
    """
    table = Table(title=plain(title, "table.title") if title else None, show_header=bool(head))
    for name in head:
        last = last_is_text and name == head[-1]
        table.add_column(plain(name), justify="left" if last else "right", no_wrap=last)
    for row in rows:
        table.add_row(*map(plain, row))
    Console().print(table)


def print_list(rows: Iterable[Sequence[object]], head: Sequence[str]) -> None:
    """Prints a table without lines on stdout: names in its first column, and what belongs to them.

    Names are never cut: where a line is too long, it goes on in the next one.

    Args:
      rows: of cells, plain text.
      head: names of the columns, whose cells are aligned right but for the first.

    Example:
      >>> print_list([("conv", 88.3), ("lc", 80.9)], ("row", "top-1"))
      row   top-1
      conv   88.3
      lc     80.9
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in head:
        justify: Any = "left" if name == head[0] else "right"
        table.add_column(plain(name), justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(*map(plain, row))
    console = Console()
    whole = console.options.update(max_width=_LONGEST)
    console.width = max(console.width, console.measure(table, options=whole).maximum)
    console.print(table, crop=False)


def duration(seconds: float | None) -> str:
    """How long something takes, for people.

    Args:
      seconds: its length, or None if that is not known.

    Returns:
      Hours, minutes and seconds.

    Example:
      >>> duration(3661.4), duration(None)
      ('1:01:01', '...')
    """
    return "..." if seconds is None else str(timedelta(seconds=round(seconds)))
