"""Tables in CSV files that people keep and edit: a line that cannot be read is told, by number."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxws.system.atomic import read_plain

Tell = Callable[[str], object]


class Line(NamedTuple):
    """A line of a table.

    Attributes:
      where: file, its directory and the number of the line, for people.
      cells: texts by column.
    """

    where: str
    cells: dict[str, str]


def read_table(path: Path, needed: Sequence[str], tell: Tell) -> Iterator[Line]:
    r"""Reads a table with a line of column names.

    Args:
      path: of the file; where there is none, there are no lines.
      needed: columns that it must have.
      tell: takes what is wrong, a line of text each: what cannot be read is left out.

    Yields:
      The lines.

    Example:
      >>> import tempfile
      >>> file = Path(tempfile.mkdtemp()) / "runs.csv"
      >>> _ = file.write_text("name,steps\na,1\nb\n")
      >>> [line.cells for line in read_table(file, ["name"], lambda problem: None)]
      [{'name': 'a', 'steps': '1'}]
    """
    shown = f"{path.parent.name}/{path.name}"
    try:
        text = read_plain(path).decode(errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        tell(f"{shown} cannot be read: {error.strerror}")
        return
    head: list[str] | None = None
    # One by one: a quotation mark that is not closed must not take other lines with it.
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"{shown}, line {number}"
        try:
            (cells,) = csv.reader([line], strict=True)
        except csv.Error as error:
            tell(f"{where}: {error}")
            continue
        if head is None:
            head = cells
            if missing := [name for name in needed if name not in head]:
                tell(f"{where}: expected columns {', '.join(missing)} among {_short(head)}")
                return
        elif len(cells) != len(head):
            tell(f"{where}: {len(cells)} values, expected {len(head)}")
        else:
            yield Line(where, dict(zip(head, cells, strict=True)))


def table_text(columns: Sequence[str], lines: Iterable[Mapping[str, str]]) -> str:
    r"""Writes a table.

    Args:
      columns: in their order.
      lines: texts by column; what a line does not have is left empty.

    Returns:
      CSV.

    Example:
      >>> table_text(["a", "b"], [{"a": "1"}])
      'a,b\n1,\n'
    """
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


def _short(head: Sequence[str]) -> str:
    text = ", ".join(head)
    return text if len(text) <= 60 else f"{text[:60]}..."
