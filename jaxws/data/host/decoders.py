"""From the bytes of a record to pixels, with Pillow or with a faster decoder."""

from __future__ import annotations

import importlib.util

import numpy as np
from PIL import Image

from jaxws.config.choices import DECODERS, check_one_of
from jaxws.data.sources.images import UndecodableImageError, decode_image
from jaxws.data.sources.records import Record


def check_decoder(decoder: str) -> None:
    """Sees that a decoder can be used here.

    Args:
      decoder: one of ``jaxws.config.choices.DECODERS``.

    Raises:
      ValueError: if it is unknown or not installed.

    Example:
      >>> check_decoder("pil")
    """
    check_one_of("data.decoder", decoder, DECODERS)
    if decoder == "simplejpeg" and importlib.util.find_spec("simplejpeg") is None:
        raise ValueError(
            "data.decoder is 'simplejpeg', which is not installed: run `pip install simplejpeg`"
            " or set --config.data.decoder=pil"
        )


def decode_record(record: Record, channels: int, decoder: str) -> Image.Image | np.ndarray:
    """Decodes the image of a record as a whole.

    Both decoders are libjpeg-turbo with the accurate inverse transform and smooth upsampling of
    chroma. What simplejpeg cannot decode (other formats than JPEG, CMYK) and grayscale output go
    to Pillow, which also has the last word on what is damaged.

    Args:
      record: an encoded image.
      channels: 3 for RGB or 1 for grayscale; images of other modes are converted.
      decoder: one of ``jaxws.config.choices.DECODERS``.

    Returns:
      The image, by Pillow or as uint8 ``(H, W, 3)``; ``cut`` takes both.

    Raises:
      ValueError: if the image is truncated, broken or none; the message names the record.

    Example:
      >>> try:
      ...     decode_record(Record(b"", 0, "record 7"), 3, "pil")
      ... except ValueError as error:
      ...     print(str(error)[:47])
      record 7 cannot be decoded (the file is empty):
    """
    if decoder == "simplejpeg" and channels == 3 and record.data[:2] == b"\xff\xd8":
        import simplejpeg  # noqa: PLC0415 - an optional dependency

        try:
            return simplejpeg.decode_jpeg(record.data, "RGB")
        except ValueError:
            pass
    try:
        return decode_image(record.data, channels)
    except UndecodableImageError as error:
        raise ValueError(
            f"{record.name} cannot be decoded ({error}): replace the image and prepare the data set"
            " anew"
        ) from error


def cut(
    image: Image.Image | np.ndarray,
    box: tuple[int, int, int, int],
    size: tuple[int, int] | None = None,
) -> Image.Image:
    """Cuts out a box and resizes it as torchvision does: first the one, then the other.

    Resizing is bilinear and antialiased, as Pillow does it; pixels outside the box have no part
    in the result.

    Args:
      image: from ``decode_record``.
      box: left, upper, right and lower edge in pixels, within the image.
      size: width and height of the result, or None to leave the box as it is.

    Returns:
      The pixels.

    Example:
      >>> import numpy as np
      >>> image = np.arange(12, dtype=np.uint8).reshape(3, 4, 1).repeat(3, axis=2)
      >>> cut(image, (1, 1, 3, 3)).getpixel((0, 0))
      (5, 5, 5)
    """
    left, upper, right, lower = box
    if isinstance(image, np.ndarray):
        part = Image.fromarray(image[upper:lower, left:right])
    else:
        part = image if box == (0, 0, *image.size) else image.crop(box)
    return part if size is None else part.resize(size, Image.Resampling.BILINEAR)
