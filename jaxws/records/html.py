"""Pieces of a web page that stands alone: no scripts, no network, light or dark like its reader."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from typing import Any

from jaxws.system.text import printable

_STYLE = """
:root { color-scheme: light dark; --text: #1d2328; --back: #fff; --faint: #5a646d;
  --line: #d5dadf; --band: #f4f6f8; --shade: #0003; }
@media (prefers-color-scheme: dark) {
  :root { --text: #dfe4e8; --back: #141414; --faint: #9aa5ae; --line: #3a4249; --band: #1d2327;
    --shade: #fff5; }
  img { filter: invert(0.92) hue-rotate(180deg); }
}
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: var(--text);
  background: var(--back); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin-bottom: 0.2rem; }
h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p.sub, figcaption, caption { color: var(--faint); }
.scroll { overflow-x: auto; margin: 1rem 0;
  background: linear-gradient(to left, var(--back) 60%, #0000) right / 4rem 100% no-repeat local,
    linear-gradient(to left, var(--shade), #0000) right / 1rem 100% no-repeat scroll; }
table { border-collapse: separate; border-spacing: 0; font-size: 0.92rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 0.4rem; position: sticky; left: 0;
  max-width: calc(100vw - 3rem); }
th, td { padding: 0.2rem 0.9rem 0.2rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
thead th { white-space: nowrap; }
th[scope=row] { font-weight: 500; white-space: nowrap; position: sticky; left: 0;
  background: var(--back); }
td:last-child:not(.number) { min-width: 12rem; }
td.number, th.number { text-align: right; white-space: nowrap; }
figure { margin: 1.2rem 0; }
figure img { max-width: min(100%, 46rem); height: auto; }
.figures { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); }
pre { background: var(--band); padding: 0.8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
summary { cursor: pointer; }
h1, p, li, figcaption { overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  body { margin-top: 1rem; }
  thead th { white-space: normal; vertical-align: bottom; }
  th, td { padding-right: 0.6rem; }
  th[scope=row] span { display: inline-block; width: max-content; max-width: 42vw;
    white-space: normal; overflow-wrap: anywhere; }
}
"""


def escape(text: object) -> str:
    """Text as HTML.

    Args:
      text: anything.

    Returns:
      HTML that shows it, see :func:`jaxws.system.text.printable`.

    Example:
      >>> escape("w<x")
      'w&lt;x'
    """
    return html.escape(printable(text))


def page(title: str, body: Iterable[str]) -> str:
    """A whole page.

    Args:
      title: plain text.
      body: HTML.

    Returns:
      HTML.

    Example:
      >>> page("A < B", ["<p>...</p>"]).splitlines()[4]
      '<title>A &lt; B</title>'
    """
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f"<title>{escape(title)}</title>",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        "<main>",
        *body,
        "</main>",
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Sequence[int] = ()
) -> str:
    """A table with headers for its columns and, in the first one, its rows.

    Args:
      caption: plain text.
      head: names of the columns, plain text.
      rows: of cells, which become plain text.
      numbers: indices of columns to align right.

    Returns:
      HTML.

    Example:
      >>> table("Weights", ["layer", "number"], [["conv1", 9]], numbers=[1]).splitlines()[4]
      '<tr><th scope="row"><span>conv1</span></th><td class="number">9</td></tr>'
    """

    def kind(column: int) -> str:
        return ' class="number"' if column in numbers else ""

    lines = ['<div class="scroll" tabindex="0"><table>', f"<caption>{escape(caption)}</caption>"]
    names = "".join(f'<th scope="col"{kind(i)}>{escape(name)}</th>' for i, name in enumerate(head))
    lines += [f"<thead><tr>{names}</tr></thead>", "<tbody>"]
    for first, *others in rows:
        cells = "".join(f"<td{kind(i)}>{escape(v)}</td>" for i, v in enumerate(others, 1))
        lines.append(f'<tr><th scope="row"{kind(0)}><span>{escape(first)}</span></th>{cells}</tr>')
    return "\n".join([*lines, "</tbody>", "</table></div>"])


def figure(png: bytes, text: str, caption: str) -> str:
    """An image, embedded.

    Args:
      png: the image.
      text: what it shows, for those who do not see it; plain text.
      caption: plain text.

    Returns:
      HTML.

    Example:
      >>> figure(b"", "A line falls.", "Loss").startswith("<figure><img alt=")
      True
    """
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{escape(text)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def details(summary: str, content: str) -> str:
    r"""What is shown on demand.

    Args:
      summary: plain text.
      content: HTML.

    Returns:
      HTML.

    Example:
      >>> details("More", "<p>...</p>")
      '<details><summary>More</summary>\n<p>...</p></details>'
    """
    return f"<details><summary>{escape(summary)}</summary>\n{content}</details>"
