"""Reading archives of which nothing is known: no more than images take, whatever they claim.

A few bytes of a tar or zip can stand for any number of others: a member with holes, zeros that are
compressed, a header that gives a size. Here each of them is refused before it is read.
"""

import gzip
import io
import lzma
import math
import pathlib
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO

import numpy as np

# Of one image, compressed; the largest of ImageNet have 16 MB.
MOST_IMAGE_BYTES = 64 * 1024**2
_SMALL = 64 * 1024  # what is read beside the members of any archive, at most, and of no moment
_MOST_FILES = 1000  # in an archive that is read as a whole; CIFAR's have ten
# What damaged or hostile archives make Python's modules raise.
TAR_ERRORS = (OSError, EOFError, ValueError, OverflowError, tarfile.TarError, zlib.error)
ZIP_ERRORS = (
    *(OSError, EOFError, KeyError, IndexError, RuntimeError, ValueError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)


class BoundedFile(io.RawIOBase):
    """A file for ``tarfile`` of which no more than so many bytes are read.

    Example:
      >>> file = BoundedFile(io.BytesIO(bytes(1000)), most=600, end=1000)
      >>> len(file.read(512))
      512
      >>> file.read(512)
      Traceback (most recent call last):
      tarfile.ReadError: it claims more than the 600 bytes that it may have
    """

    def __init__(self, file: IO[bytes], most: int, end: int):
        """Wraps a file.

        Args:
          file: open for reading; it is not closed.
          most: bytes that may be read, in all, of whatever part.
          end: the last position in it that may be gone to.
        """
        self._file, self._most, self._left, self._end = file, most, most, end

    def read(self, size: int = -1) -> bytes:
        """Reads bytes; raises tarfile.ReadError if they are too many."""
        if not 0 <= size <= self._left:
            self._refuse()
        data = self._file.read(size)
        self._left -= max(len(data), 1)  # so that nothing goes on for ever at the end
        return data

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        """Goes to a position; raises tarfile.ReadError if it is too far."""
        if whence != io.SEEK_SET or not 0 <= position <= self._end:
            self._refuse()
        return self._file.seek(position)

    def tell(self) -> int:
        """The position."""
        return self._file.tell()

    def _refuse(self) -> None:
        raise tarfile.ReadError(f"it claims more than the {self._most} bytes that it may have")


def check_member(member: tarfile.TarInfo, most: int) -> None:
    """Refuses a file in a tar that would be more than what is stored of it.

    Args:
      member: a regular file.
      most: bytes that it may have.

    Raises:
      tarfile.ReadError: if it has more, or holes.

    Example:
      >>> member = tarfile.TarInfo("a.jpg")
      >>> member.size = 2**62
      >>> check_member(member, MOST_IMAGE_BYTES)
      Traceback (most recent call last):
      tarfile.ReadError: a.jpg claims 4611686018427387904 bytes, expected at most 67108864
    """
    if member.issparse():
        raise tarfile.ReadError(f"{member.name} is a sparse file")
    if not 0 <= member.size <= most:
        raise tarfile.ReadError(
            f"{member.name} claims {member.size} bytes, expected at most {most}"
        )


def read_tar(path: pathlib.Path, most: int) -> dict[str, bytes]:
    """Reads all files of a tar, compressed by gzip or not.

    Links, devices and directories are left out, and nothing is written anywhere.

    Args:
      path: the archive.
      most: bytes that it may have in all, unpacked.

    Returns:
      The content of each file by its base name.

    Raises:
      OSError, tarfile.TarError, EOFError, zlib.error, ValueError: see ``TAR_ERRORS``; if it is
        damaged, has more bytes or has two files of one name.

    Example:
      >>> read_tar(pathlib.Path("/dev/null"), 1000)
      Traceback (most recent call last):
      tarfile.ReadError: empty file
    """
    files: dict[str, bytes] = {}
    with path.open("rb") as packed:
        magic = packed.read(2)
        packed.seek(0)
        unpacked = gzip.GzipFile(fileobj=packed) if magic == b"\x1f\x8b" else packed
        bounded = BoundedFile(unpacked, most, most)  # type: ignore[arg-type]
        with tarfile.open(fileobj=bounded, mode="r:") as archive:
            for member in _regular(archive, most):
                name = pathlib.PurePosixPath(member.name).name
                if name in files:
                    raise tarfile.ReadError(f"it has two files {name}")
                files[name] = archive.extractfile(member).read()  # type: ignore[union-attr]
    return files


def _regular(archive: tarfile.TarFile, most: int) -> Iterator[tarfile.TarInfo]:
    count = 0
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]  # kept by tarfile
        check_member(member, most)
        count += 1
        if count > _MOST_FILES:
            raise tarfile.ReadError(f"it has more than {_MOST_FILES} files")
        if member.isfile():
            yield member


def walk_bounds(size: int) -> int:
    """Bytes that are read at most to list a tar: each member has a header, and all are in it.

    Args:
      size: of the tar, in bytes.

    Example:
      >>> walk_bounds(10**6)
      2065536
    """
    return 2 * size + _SMALL


def read_zipped(archive: zipfile.ZipFile, name: str, most: int = MOST_IMAGE_BYTES) -> bytes:
    """Reads a file of a zip.

    Args:
      archive: the zip.
      name: of the file.
      most: bytes that it may have, unpacked.

    Returns:
      Its content.

    Raises:
      zipfile.BadZipFile: if it claims more. Others: see ``ZIP_ERRORS``.
    """
    info = archive.getinfo(name)
    if info.file_size > most:
        raise zipfile.BadZipFile(f"{name} claims {info.file_size} bytes, expected at most {most}")
    return archive.read(info)  # no more than that, and a checksum of it, is checked by zipfile


def check_npz(file: IO[bytes], most: int) -> None:
    """Checks that the arrays of an .npz file are as large as they claim; reads their headers alone.

    Args:
      file: open at its beginning, where it is left.
      most: bytes that all of them may have.

    Raises:
      ValueError: if they have more, or hold objects. Others: see ``ZIP_ERRORS``.

    Example:
      >>> file = io.BytesIO()
      >>> np.savez(file, images=np.zeros((10, 10), np.uint8))
      >>> check_npz(file, most=100)
      >>> check_npz(file, most=99)
      Traceback (most recent call last):
      ValueError: images.npy claims 100 bytes, expected at most 99
    """
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            with archive.open(info) as member:
                np.lib.format.read_magic(member)
                shape, _, dtype = np.lib.format.read_array_header_1_0(member)
                header = member.tell()
            size = math.prod(shape) * dtype.itemsize
            if dtype.hasobject or size > most or size != info.file_size - header:
                raise ValueError(f"{info.filename} claims {size} bytes, expected at most {most}")
            most -= size
    file.seek(0)
