"""What a report consists of, before it is Markdown or HTML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Heading(NamedTuple):
    """Begins a section.

    Attributes:
      level: 2 or 3; 1 is the title.
      text: plain.
    """

    level: int
    text: str


class Text(NamedTuple):
    """A paragraph.

    Attributes:
      text: plain.
      strong: whether it must not be overlooked.
    """

    text: str
    strong: bool = False


class Items(NamedTuple):
    """A list.

    Attributes:
      items: plain text each.
    """

    items: Sequence[str]


class Code(NamedTuple):
    """Commands.

    Attributes:
      lines: one each.
    """

    lines: Sequence[str]


class Table(NamedTuple):
    """A table.

    Attributes:
      caption: plain text.
      head: names of the columns.
      rows: cells, plain text; the first one of each names the row.
      numbers: indices of columns to align right.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[int] = ()


class Figure(NamedTuple):
    """A picture.

    Attributes:
      name: of its file, with the suffix.
      png: its content.
      alt: what it shows, for those who do not see it; plain text.
      caption: plain text.
    """

    name: str
    png: bytes
    alt: str
    caption: str


Block = Heading | Text | Items | Code | Table | Figure


class Document(NamedTuple):
    """A report.

    Attributes:
      title: plain text.
      blocks: all else, in their order.
    """

    title: str
    blocks: Sequence[Block]
