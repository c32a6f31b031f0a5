"""Where files lie that can be made again at any time, and are kept because that takes long."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """The directory: ``$JAXWS_CACHE_DIR``, or ``jaxws`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Returns:
      Its path; it need not exist.

    Raises:
      OSError: there is no home directory, and none of the variables is set.

    Example:
      >>> isinstance(user_cache(), Path)
      True
    """
    if given := os.environ.get("JAXWS_CACHE_DIR"):
        return Path(given)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxws"
    except RuntimeError as error:  # neither HOME nor an entry in the list of users
        raise OSError("there is no home directory; set JAXWS_CACHE_DIR to a directory") from error
