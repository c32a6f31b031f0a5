"""A report as a web page that stands alone."""

from __future__ import annotations

from jaxws.paper.report.document import Block, Code, Document, Figure, Heading, Items, Table, Text
from jaxws.records import html
from jaxws.records.html import escape


def to_html(document: Document) -> str:
    """Writes a report.

    Args:
      document: the report.

    Returns:
      HTML, with its figures in it.

    Example:
      >>> to_html(Document("Report", [Heading(2, "Table <5>")])).splitlines()[-4]
      '<h2>Table &lt;5&gt;</h2>'
    """
    title = f"<h1>{escape(document.title)}</h1>"
    return html.page(document.title, [title, *map(_block, document.blocks)])


def _block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{escape(text)}</h{level}>"
        case Text(text, strong):
            return f"<p><strong>{escape(text)}</strong></p>" if strong else f"<p>{escape(text)}</p>"
        case Items(items):
            return "\n".join(["<ul>", *(f"<li>{escape(item)}</li>" for item in items), "</ul>"])
        case Code(lines):
            return f"<pre><code>{escape(chr(10).join(lines))}</code></pre>"
        case Table(caption, head, rows, numbers):
            return html.table(caption, head, rows, numbers)
        case Figure(_, png, alt, caption):
            return html.figure(png, alt, caption)
