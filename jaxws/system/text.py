"""Text as text: what names and messages hold is shown, and never acted upon by a terminal."""

from __future__ import annotations

import logging
import sys

_TOLD_BY = ("absl", "jaxws")  # loggers whose messages hold names of files


def printable(text: object) -> str:
    r"""Writes out what a terminal would act upon, and what no encoding has.

    Args:
      text: anything; names of files from a command line or a disk among it.

    Returns:
      Its text, with line ends as they are; control characters, escape codes, marks that turn the
      direction of writing and bytes of names that are not UTF-8 are written as in Python.

    Example:
      >>> print(printable("runs/\x1b[31mred\r"))
      runs/\x1b[31mred\r
    """
    return "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in str(text))


def one_line(text: object) -> str:
    r"""As :func:`printable`, in one line.

    Args:
      text: anything, such as an error.

    Returns:
      One line.

    Example:
      >>> one_line("a name\nof two lines")
      'a name of two lines'
    """
    return printable(" ".join(str(text).split()))


def size_text(size: float) -> str:
    """A number of bytes for people.

    Args:
      size: the number.

    Returns:
      It, to three digits.

    Example:
      >>> size_text(170_052_171), size_text(147_897_477_120)
      ('170 MB', '148 GB')
    """
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"


def duration_text(hours: float) -> str:
    """A length of time for people.

    Args:
      hours: its length.

    Returns:
      It, to two digits or so, in the unit that suits it.

    Example:
      >>> [duration_text(hours) for hours in (0.0038, 0.04, 1.54, 270.3)]
      ['14 s', '2.4 min', '1.5 h', '270 h']
    """
    for unit, length in (("h", hours), ("min", 60 * hours), ("s", 3600 * hours)):
        if length >= 1 or unit == "s":
            break
    return f"{length:.2g} {unit}" if length < 100 else f"{length:.0f} {unit}"


def say(line: object, *, error: bool = False) -> None:
    r"""Prints text, whatever it holds, at once.

    Args:
      line: to print.
      error: to stderr, not to stdout.

    Example:
      >>> say("runs/\udcff")
      runs/\udcff
    """
    print(printable(line), file=sys.stderr if error else sys.stdout, flush=True)


def show_text_as_text() -> None:
    """Sees to it that what is printed and logged in this process fails for no character."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    for name in _TOLD_BY:
        logging.getLogger(name).addFilter(_printable_record)


def _printable_record(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage()), None
    return True


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
