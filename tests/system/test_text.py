"""Text as text: markup, escape codes and bytes that are no UTF-8 are shown, wherever it goes."""

import io
import json
import logging
import sys

import pytest

from jaxws.records.html import page, table
from jaxws.records.snr_plot import plot_snr
from jaxws.system.terminal import Bar, print_table, track
from jaxws.system.text import one_line, printable, say, show_text_as_text

HOSTILE = [
    *("w[/x]y", "w[red]", "[link=x]w", "a\x1b[31mred", "a\x9b2J", "a\rb\b"),
    *("\u202eabc", "\udcff"),
]


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_prints_it_shows_it(name, monkeypatch, capsys):
    shown = printable(name)
    assert shown.isprintable() and shown.isascii()
    assert json.loads(json.dumps(shown)) == shown
    say(name)
    say(name, error=True)
    with Bar("{task.description}", description=name, total=2) as bar:
        bar.print(name)
    print_table([(name, 1)], title=name, head=(name, "x"))
    out, err = capsys.readouterr()
    assert out.count(shown) == 4 and err.count(shown) == 2
    assert (out + err).replace("\n", "").isprintable()

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.stderr", stream := Terminal())
    list(track(range(3), name, total=2500, weight=1000))
    assert shown in stream.getvalue()


def test_pages_and_logs(capsys):
    for name in HOSTILE:
        html = page(name, [table(name, [name], [[name, name]])])
        assert html.replace("\n", "").isprintable() and html.count(printable(name)) == 5
    assert one_line("a\n\tb\x1b") == "a b\\x1b"
    logger = logging.getLogger("jaxws")
    filters, handler = list(logger.filters), logging.StreamHandler(stream := io.StringIO())
    logger.addHandler(handler)
    try:
        show_text_as_text()
        logger.warning("%s is gone", "a\x1b[31m")
    finally:
        logger.removeHandler(handler)
        logger.filters[:] = filters
    assert stream.getvalue() == "a\\x1b[31m is gone\n"
    assert getattr(sys.stdout, "errors", "backslashreplace") in ("backslashreplace", "strict")


def test_layers_in_a_plot_may_be_called_anything():
    """A formula that is none, a label that matplotlib would hide, an escape code."""
    names = ["$x^", "_a", "a\x1b[31m", "\udcff"]
    record = {"kind": "train", "step": 1, "neg_log_snr": dict.fromkeys(names, 0.5)}
    assert plot_snr([record]).startswith(b"\x89PNG")
