"""Keeps Orbax quiet: what it prints about one failed save fills a screen."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

_ORBAX = re.compile(r"\[process=\d+\]\[thread=")  # how its records begin


@contextlib.contextmanager
def silence_orbax() -> Iterator[None]:
    """Drops Orbax's log records, and errors in the threads of a save that has failed.

    All of it is in the exception that it raises as well, which is reported in one line. Several
    may be open at a time, if the last one that was opened is closed first.

    Example:
      >>> with silence_orbax():
      ...     pass
    """
    hook = sys.unraisablehook

    def is_ours(record: logging.LogRecord) -> bool:
        # absl does not always find the file that a record comes from.
        theirs = "/orbax/" in record.pathname or _ORBAX.match(record.getMessage())
        return not theirs

    def unraisable(event: Any) -> None:
        # Arrays that are being written when the first one fails report to a loop that is gone.
        if str(event.exc_value) != "Event loop is closed":
            hook(event)

    sys.unraisablehook = unraisable
    logging.getLogger("absl").addFilter(is_ours)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        logging.getLogger("absl").removeFilter(is_ours)
