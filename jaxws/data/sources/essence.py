"""What of a file makes its pixels, for readers that stumble over the rest of it.

Pillow refuses a PNG for a long text or colour profile, and a JPEG for a broken profile. None of
these is a pixel.
"""

import struct
import zlib

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
_APP0, _APP14, _COMMENT, _SCAN = 0xE0, 0xEE, 0xFE, 0xDA


def pixels_only(data: bytes) -> bytes | None:
    """A PNG or JPEG file without text, colour profiles, thumbnails and notes of cameras.

    Args:
      data: bytes of a file.

    Returns:
      The bytes of one that has the same pixels, or None if it is neither PNG nor JPEG or broken.

    Example:
      >>> import io
      >>> from PIL import Image
      >>> file = io.BytesIO()
      >>> Image.new("L", (5, 4), 7).save(file, "jpeg", comment="a comment")
      >>> small = pixels_only(file.getvalue())
      >>> len(file.getvalue()) - len(small), Image.open(io.BytesIO(small)).getpixel((0, 0))
      (13, 7)
    """
    try:
        if data.startswith(_PNG):
            return _png(data)
        if data.startswith(_JPEG):
            return _jpeg(data)
    except (struct.error, IndexError):
        pass
    return None


def _png(data: bytes) -> bytes:
    parts = [_PNG]
    at = len(_PNG)
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        chunk = data[at : at + 12 + length]
        at += 12 + length
        if kind == b"IEND":
            break
        if kind == b"IDAT":
            parts.append(_chunk(kind, chunk[8 : 8 + length]))
        elif kind in _PNG_CHUNKS:
            parts.append(chunk)  # With its own checksum: what it says decides about the pixels.
    return b"".join([*parts, _chunk(b"IEND", b"")])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _jpeg(data: bytes) -> bytes | None:
    parts = [_JPEG]
    at = len(_JPEG)
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # Marks may be filled up with any number of these.
            at += 1
            continue
        if marker == _SCAN:
            return b"".join([*parts, data[at:]])
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        # JFIF's and Adobe's say what the colours are.
        if not (_APP0 < marker <= _APP0 + 15 and marker != _APP14) and marker != _COMMENT:
            parts.append(data[at : at + 2 + length])
        at += 2 + length
    return None
