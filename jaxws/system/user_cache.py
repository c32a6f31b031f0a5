"""Where files lie that can be made again at any time, and are kept because that takes long."""

from __future__ import annotations

import os
from pathlib import Path

from jaxws.system.local_path import local_path


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
