"""JPEG files without the mark of their end: whether their pixels are complete all the same.

Pillow refuses such a file as truncated, whether two bytes are missing or half of the image. Where
zeros follow, as after a download that broke off, it takes them for the rest of the pixels.
"""

import re
import struct

_JPEG = b"\xff\xd8"
_END = b"\xff\xd9"
_SCAN = 0xDA
# What may follow the pixels of a file is different for each, and none of it may change a pixel.
_BITS = (b"\0\0\0\0", b"\xb5\x5a\x93\x6e", b"UUUU", b"\xfe\xfd\xfb\xf7")
# So many bytes of 0 at the end are no image, but a file that was never filled.
_UNFILLED = 8
_NO_SEGMENT = (0x01, *range(0xD0, 0xD9))
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# A mark within the bits of pixels, where a byte of 255 is followed by 0.
_MARK = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)


def is_unfilled(data: bytes) -> bool:
    r"""Whether a JPEG file has zeros where it should end.

    Args:
      data: bytes of a file.

    Example:
      >>> is_unfilled(b"\xff\xd8" + bytes(100)), is_unfilled(b"GIF" + bytes(100))
      (True, False)
    """
    if not data.startswith(_JPEG) or data[-_UNFILLED:].strip(b"\0"):
        return False
    return not data.rstrip(b"\0").endswith(_END)


def with_ends(data: bytes) -> list[bytes]:
    """A JPEG file with several ends, of which a decoder sees nothing if the pixels are complete.

    Each end has bits of its own to be taken for the rest of the pixels. If all files are decoded
    to the same pixels, none was taken from there.

    Args:
      data: bytes of a JPEG file without an end.

    Returns:
      The files; none if it is no JPEG, or scans that it needs are not there.

    Example:
      >>> with_ends(b"GIF")
      []
    """
    if is_unfilled(data):
        data = data.rstrip(b"\0")
    data = data.rstrip(b"\xff")  # half of a mark
    try:
        if not data.startswith(_JPEG) or not _has_all_scans(data):
            return []
    except (struct.error, IndexError):
        return []
    return [data + _end(bits) for bits in _BITS]


def _end(bits: bytes) -> bytes:
    """The bits, also after each of the marks at which a decoder may begin anew, and the end."""
    bits *= 16
    restarts = (bytes([0xFF, 0xD0 + number]) + bits for number in range(8))
    return bits + b"".join(restarts) + _END


def _has_all_scans(data: bytes) -> bool:
    """Whether the scans that begin in a file have all bits of all coefficients of all colours."""
    missing: set[tuple[int, int]] = set()
    at = len(_JPEG)
    while (mark := _MARK.search(data, at)) is not None:
        kind, at = mark[1][0], mark.end()
        if kind == _END[1]:
            break
        if kind in _NO_SEGMENT:
            continue
        (length,) = struct.unpack(">H", data[at : at + 2])
        segment = data[at + 2 : at + length]
        if len(segment) != length - 2:
            return False
        if kind in _FRAMES:
            colours = [segment[6 + 3 * number] for number in range(segment[5])]
            missing = {(colour, coefficient) for colour in colours for coefficient in range(64)}
        elif kind == _SCAN:
            missing -= _completed(segment)
        at += length
    return not missing


def _completed(scan: bytes) -> set[tuple[int, int]]:
    """The coefficients of which a scan has the last bit."""
    colours = [scan[1 + 2 * number] for number in range(scan[0])]
    first, last, bits = scan[1 + 2 * scan[0] :][:3]
    if bits & 0x0F:
        return set()
    return {(colour, number) for colour in colours for number in range(first, last + 1)}
