"""Keeps Orbax quiet: what it prints about one failed save fills a screen.

All of it is in the exception that it raises as well, which is reported in one line.
"""

from __future__ import annotations

import logging
import sys
from typing import Any


class Quiet:
    """Drops Orbax's log records, and errors in the threads of a save that has failed.

    Example:
      >>> quiet = Quiet()
      >>> quiet.end()
    """

    def __init__(self) -> None:
        """Begins; a process may have several at a time, if the last one that began ends first."""
        self._hook = sys.unraisablehook
        sys.unraisablehook = self._unraisable
        self._filter = lambda record: "/orbax/" not in record.pathname
        logging.getLogger("absl").addFilter(self._filter)

    def end(self) -> None:
        """Ends."""
        sys.unraisablehook = self._hook
        logging.getLogger("absl").removeFilter(self._filter)

    def _unraisable(self, event: Any) -> None:
        # Arrays that are being written when the first one fails report to a loop that is gone.
        if str(event.exc_value) != "Event loop is closed":
            self._hook(event)
