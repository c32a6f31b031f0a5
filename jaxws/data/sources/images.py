"""Image files to uint8 pixels: the one place that knows colour modes and resizing."""

import io

import numpy as np
from PIL import Image

# What a file that calls itself .jpg or .png really holds on the open web.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")


class UndecodableImageError(ValueError):
    """The bytes are not a whole image that can be decoded."""


def decode_image(data: bytes, channels: int) -> Image.Image:
    """Decodes a whole image.

    Grayscale, palette, CMYK, 16-bit and transparent images are converted; transparency is
    dropped. The orientation noted in EXIF is not applied, as in torchvision's ImageFolder.

    Args:
      data: bytes of a JPEG, PNG, BMP, GIF (first frame) or WebP file.
      channels: 3 for RGB or 1 for grayscale.

    Returns:
      The decoded image, of mode 'RGB' or 'L'.

    Raises:
      UndecodableImageError: if the bytes are truncated, broken or no image.

    Example:
      >>> import io
      >>> from PIL import Image
      >>> file = io.BytesIO()
      >>> Image.new("L", (5, 4), 7).save(file, "png")
      >>> decode_image(file.getvalue(), 3).getpixel((0, 0))
      (7, 7, 7)
    """
    return _to_mode(_load(data), {1: "L", 3: "RGB"}[channels])


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
    image = _load(data)
    plain = image.format in ("JPEG", "MPO", "PNG") and image.mode in ("RGB", "L")
    return image.width, image.height, plain


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


def _load(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        image.load()
    except MemoryError:
        raise
    # Codecs raise OSError, SyntaxError, ValueError, struct.error, ... for broken bytes.
    except Exception as error:
        raise UndecodableImageError(f"{type(error).__name__}: {error}") from error
    return image


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == mode:
        return image
    if image.mode.startswith("I"):
        # Pillow clips 16-bit values at 255 where they should be scaled.
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # The way that Pillow asks for, without a warning.
    return image.convert(mode)
