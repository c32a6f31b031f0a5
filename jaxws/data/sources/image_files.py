"""Image files on a disk: told by their names, and read only if they are files.

Under the name of an image there may be a pipe, on which a reader waits for ever, or a device, of
which it reads for ever. What it is is looked at before it is opened, and once more when it is open.
"""

import errno
import hashlib
import os
import pathlib
import stat
from typing import NamedTuple

SUFFIXES = (".jpg", ".jpeg", ".png")
# Pictures all the same: leaving them out would lose data without a word.
_OTHER_PICTURES = (".bmp", ".gif", ".webp", ".tif", ".tiff", ".jfif", ".jpe", ".jp2", ".heic")
# Twice what Pillow's largest image takes that is not compressed at all.
_MOST_BYTES = 1024**3


class ImageFile(NamedTuple):
    """An image file.

    Attributes:
      name: relative to the folder.
      label: its class.
      size: in bytes.
      defect: why it must not be opened, as it is a named pipe for one, or ''.
    """

    name: str
    label: str
    size: int
    defect: str = ""


def is_image_name(name: str) -> bool:
    """Whether a name is that of an image to be read.

    Example:
      >>> is_image_name("0.PNG"), is_image_name("0.webp")
      (True, False)
    """
    return name.lower().endswith(SUFFIXES)


def is_other_picture(name: str) -> bool:
    """Whether a name is that of a picture of a kind that is not looked for.

    Example:
      >>> is_other_picture("0.PNG"), is_other_picture("0.webp")
      (False, True)
    """
    return name.lower().endswith(_OTHER_PICTURES)


def describe(
    entry: "os.DirEntry[str]", name: str, label: str, digest: "hashlib._Hash"
) -> ImageFile:
    """Looks at an image file without opening it.

    Args:
      entry: the entry of its folder.
      name: to give it.
      label: its class.
      digest: takes in the name, and the size and time of change or the defect.

    Returns:
      What there is.

    Raises:
      OSError: if it cannot be looked at; a link to nothing can.
    """
    try:
        status = entry.stat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP):
            raise
        defect = "a link to nothing, not a file"
    else:
        defect = _defect(status)
    what = defect or f"{status.st_size}\0{status.st_mtime_ns}"
    digest.update(f"{name}\0{what}\n".encode("utf-8", "surrogateescape"))
    return ImageFile(name, label, 0 if defect else status.st_size, defect)


def read_image_file(folder: pathlib.Path, file: ImageFile) -> bytes:
    """Reads an image file; never waits for a writer, nor reads a device.

    Args:
      folder: where the file is.
      file: a file without a defect.

    Returns:
      Its bytes.

    Raises:
      ValueError: if it cannot be read, or is no file any more.
    """
    path = folder / file.name
    try:
        with open(path, "rb", opener=_open_at_once) as stream:
            if defect := _defect(os.fstat(stream.fileno())):
                raise OSError(f"it is {defect}")
            return stream.read()
    except OSError as error:
        # Not the fault of the image: leaving it out could lose a whole disk without a word.
        raise ValueError(
            f"image {str(path)!r} cannot be read ({error}): check its permissions and that the "
            "folder is not being changed"
        ) from error


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _defect(status: os.stat_result) -> str:
    """Why something must not be read as an image, or ''."""
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
        return f"{kinds.get(stat.S_IFMT(status.st_mode), 'a device')}, not a file"
    return "more than 1 GiB" if status.st_size > _MOST_BYTES else ""
