"""A report as Markdown, as GitHub shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from jaxws.paper.report.document import Block, Code, Document, Figure, Heading, Items, Table, Text
from jaxws.system.text import printable

# What Markdown would take for markup, and a cell of a table for its end.
_MARKUP = re.compile(r"([\\`*_\[\]<>|])")


def to_markdown(document: Document) -> str:
    """Writes a report.

    Args:
      document: the report.

    Returns:
      Markdown; figures are taken from beside it.

    Example:
      >>> table = Table("Two rows", ["row", "mean"], [["LC", "80.9"]], numbers=[1])
      >>> print(to_markdown(Document("Report", [Heading(2, "Table 5"), table])))
      # Report
      <BLANKLINE>
      ## Table 5
      <BLANKLINE>
      Two rows
      <BLANKLINE>
      | row | mean |
      |---|---:|
      | LC | 80.9 |
      <BLANKLINE>
    """
    parts = [f"# {_escape(document.title)}", *("\n".join(_block(b)) for b in document.blocks)]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> Iterator[str]:
    match block:
        case Heading(level, text):
            yield f"{'#' * level} {_escape(text)}"
        case Text(text, strong):
            yield f"**{_escape(text)}**" if strong else _escape(text)
        case Items(items):
            yield from (f"- {_escape(item)}" for item in items)
        case Code(lines):
            yield from ("```", *map(printable, lines), "```")
        case Table():
            yield from _table(block)
        case Figure(name, _, alt, caption):
            yield f"![{_escape(alt)}]({name})"
            yield ""
            yield _escape(caption)


def _table(table: Table) -> Iterator[str]:
    yield from (_escape(table.caption), "", _line([_escape(name) for name in table.head]))
    rules = ("---:" if i in table.numbers else "---" for i in range(len(table.head)))
    yield f"|{'|'.join(rules)}|"
    for row in table.rows:
        yield _line([_escape(cell) for cell in row])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    return _MARKUP.sub(r"\\\1", " ".join(printable(text).split()))
