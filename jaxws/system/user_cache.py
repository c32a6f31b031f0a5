"""Where files lie that can be made again at any time, and are kept because that takes long."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from jaxws.system.local_path import local_path
from jaxws.system.text import one_line

_told: list[str] = []  # in this process


def user_cache() -> Path:
    """The directory: ``$JAXWS_CACHE_DIR``, or ``jaxws`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Returns:
      Its path; it need not exist.

    Raises:
      OSError: there is no home directory, and none of the variables is set; or one of them is not
        a local path.

    Example:
      >>> isinstance(user_cache(), Path)
      True
    """
    try:
        if given := os.environ.get("JAXWS_CACHE_DIR"):
            return local_path(given, "JAXWS_CACHE_DIR")
        if given := os.environ.get("XDG_CACHE_HOME"):
            return local_path(given, "XDG_CACHE_HOME") / "jaxws"
    except ValueError as error:
        raise OSError(str(error)) from error
    try:
        return Path.home() / ".cache" / "jaxws"
    except RuntimeError as error:  # neither HOME nor an entry in the list of users
        raise OSError("there is no home directory; set JAXWS_CACHE_DIR to a directory") from error


def tell_unusable(error: Exception) -> None:
    """Says why what was compiled cannot be kept: once in a process, whatever it was.

    Args:
      error: what kept it from being written, or from being looked for.

    Example:
      >>> tell_unusable(OSError("read-only"))
    """
    if not _told:
        _told.append(one_line(error) or type(error).__name__)
        logging.getLogger("jaxws").warning(
            "programs and kernels are compiled anew at each start, because there is no place to"
            " keep them (%s)",
            _told[0],
        )
