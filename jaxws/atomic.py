"""Writing a small file so that it is never seen half-written."""

from __future__ import annotations

from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Writes a file under another name and renames it once it is whole.

    Args:
      path: of the file; ``.tmp`` is added to its name while it is written.
      text: its content.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "config.json"
      >>> write_atomically(path, "{}")
      >>> path.read_text()
      '{}'
    """
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)
