"""Image files to uint8 pixels: the one place that knows colour modes and resizing."""

import contextlib
import io
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxws.data.sources.essence import pixels_only
from jaxws.data.sources.jpeg_end import is_unfilled, with_ends

# What a file that calls itself .jpg or .png really holds on the open web. Formats that are told by
# their first bytes, and of these none whose decoder starts programs.
_KNOWN = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO", "QOI")


class UndecodableImageError(ValueError):
    """The bytes are not a whole image that can be decoded."""


def decode_image(data: bytes, channels: int) -> Image.Image:
    """Decodes a whole image.

    Grayscale, palette, CMYK, 16-bit and transparent images are converted; transparency is
    dropped. The orientation noted in EXIF is not applied, as in torchvision's ImageFolder.

    Args:
      data: bytes of a JPEG, PNG, BMP, GIF, WebP, TIFF, AVIF, JPEG 2000, PPM, ICO or QOI file; of
        several frames, the first one is taken.
      channels: 3 for RGB or 1 for grayscale.

    Returns:
      The decoded image, of mode 'RGB' or 'L'.

    Raises:
      UndecodableImageError: if pixels are missing or broken, or the bytes are no image. What is
        not pixels (text, profiles, the mark of the end) never decides.

    Example:
      >>> import io
      >>> from PIL import Image
      >>> file = io.BytesIO()
      >>> Image.new("L", (5, 4), 7).save(file, "png")
      >>> decode_image(file.getvalue(), 3).getpixel((0, 0))
      (7, 7, 7)
    """
    return _load(data, {1: "L", 3: "RGB"}[channels]).image


def inspect_image(data: bytes) -> tuple[int, int, bool]:
    """Decodes a whole image to see that it is sound.

    Args:
      data: bytes of an image file.

    Returns:
      Width and height in pixels, and whether every reader of JPEG and PNG files will see the
      same RGB or grayscale pixels in these very bytes, so that they can be stored as they are.

    Raises:
      UndecodableImageError: if the bytes are truncated, broken or no image.

    Example:
      >>> import io
      >>> from PIL import Image
      >>> file = io.BytesIO()
      >>> Image.new("CMYK", (5, 4)).save(file, "jpeg")
      >>> inspect_image(file.getvalue())
      (5, 4, False)
    """
    image, plain = _load(data, "RGB")
    return image.width, image.height, plain


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels, from the header alone; None for what is no sound image.

    Example:
      >>> image_size(b"GIF")
    """
    for part in (data, pixels_only(data)):
        # What is wrong with an image is said where it is decoded.
        with contextlib.suppress(Exception):
            if part is not None:
                with Image.open(io.BytesIO(part), formats=_formats()) as image:
                    return image.size
    return None


def fit_image(image: Image.Image, size: int | None) -> np.ndarray:
    """Resizes the shorter side to ``size`` and cuts out the centre.

    Args:
      image: a decoded image.
      size: side of the square result in pixels (antialiased bilinear resizing), or None to
        leave the image as it is.

    Returns:
      uint8 ``(H, W, c)`` pixels.

    Example:
      >>> from PIL import Image
      >>> fit_image(Image.new("RGB", (50, 40)), 8).shape
      (8, 8, 3)
    """
    if size is not None and image.size != (size, size):
        shorter = min(image.size)
        # The longer side can round to less than the shorter one only through float error.
        width, height = (max(size, round(side * size / shorter)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


class _Loaded(NamedTuple):
    image: Image.Image
    plain: bool


def _load(data: bytes, mode: str) -> _Loaded:
    try:
        if is_unfilled(data):
            raise OSError("the end of the file is filled with zeros")
        return _open(data, mode)
    except MemoryError:
        raise
    # Codecs raise OSError, SyntaxError, ValueError, struct.error, ... for broken bytes.
    except Exception as error:
        image = _load_pixels(data, mode)
        if image is None:
            raise UndecodableImageError(_reason(data, error)) from error
        return _Loaded(image, plain=False)


def _load_pixels(data: bytes, mode: str) -> Image.Image | None:
    """Decodes what Pillow refuses for something that is no pixel."""
    essence = pixels_only(data)
    if essence is None:
        return None
    try:
        if not is_unfilled(essence):
            return _open(essence, mode).image
    except MemoryError:
        raise
    except Exception:  # The same error as before, or another that says less.
        pass
    try:
        images = [_open(file, mode).image for file in with_ends(essence)]
    except MemoryError:
        raise
    except Exception:
        return None
    alike = len({image.tobytes() for image in images}) == 1
    return images[0] if alike else None


def _open(data: bytes, mode: str) -> _Loaded:
    image = Image.open(io.BytesIO(data), formats=_formats())
    image.load()
    plain = image.format in ("JPEG", "MPO", "PNG") and image.mode in ("RGB", "L")
    return _Loaded(_to_mode(image, mode), plain)


def _formats() -> list[str]:
    """Those formats that this Pillow has been built with."""
    if not all(name in Image.OPEN for name in _KNOWN):
        Image.init()
    return [name for name in _KNOWN if name in Image.OPEN]


def _reason(data: bytes, error: Exception) -> str:
    """One line that says what is wrong with an image."""
    if not data:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):  # Its own message is an address in memory.
        return f"broken or of no known format, it begins with {data[:12]!r}"
    text = " ".join(str(error).split())
    # Pillow's own words are sentences; of other errors the kind says more than the message.
    return (
        text
        if isinstance(error, OSError | UndecodableImageError)
        else (f"{type(error).__name__}: {text}")
    )


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == mode:
        return image
    if image.mode.startswith("I"):
        # Pillow clips 16-bit values at 255 where they should be scaled.
        pixels: np.ndarray = np.asarray(image).astype(np.int64)
        if pixels.min() < 0 or pixels.max() >= 2**16:
            raise UndecodableImageError("it has pixels of 32 bits, expected 8 or 16")
        image = Image.fromarray((pixels >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise UndecodableImageError("its pixels are floating-point numbers, whose range is unknown")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # The way that Pillow asks for, without a warning.
    return image.convert(mode)
