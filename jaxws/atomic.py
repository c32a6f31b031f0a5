"""Writing a small file so that it is never seen half-written."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Writes a file under another name and renames it once it is whole and on the disk.

    Args:
      path: of the file; ``.tmp`` is added to its name while it is written.
      text: its content.

    Raises:
      OSError: the file could not be written, as on a full disk; what was there is unchanged.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "config.json"
      >>> write_atomically(path, "{}")
      >>> path.read_text()
      '{}'
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
