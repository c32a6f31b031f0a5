"""Which bytes are a sound image: its pixels decide, and nothing else in the file."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxws.data.sources import images
from jaxws.data.sources.images import UndecodableImageError, decode_image, inspect_image
from tests.support.image_folder import noise
from tests.support.jpeg_set import encode, picture

PICTURE = picture(3).resize((37, 25))
PNG = encode(PICTURE, "png")
LONG = b"k\0\0" + zlib.compress(bytes(2**21))
PROFILE = b"ICC_PROFILE\0"


def chunk(kind, data, flip=0):
    checksum = zlib.crc32(kind + data) ^ flip
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def with_chunk(kind, data, flip=0, at=33):
    return PNG[:at] + chunk(kind, data, flip) + PNG[at:]


def with_segment(marker, data):
    jpeg = encode(PICTURE)
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data + jpeg[2:]


def pixels(data):
    return np.asarray(decode_image(data, 3))


SOUND = {
    "long text": with_chunk(b"zTXt", LONG),
    "long text after the pixels": with_chunk(b"zTXt", LONG, at=len(PNG) - 12),
    "long profile": with_chunk(b"iCCP", LONG),
    "broken profile": with_chunk(b"iCCP", b"no\0\7"),
    "text with a wrong checksum": with_chunk(b"tEXt", b"k\0v", flip=1),
    "short notes": with_chunk(b"pHYs", b"1"),
    "no frames": with_chunk(b"acTL", b""),
    "no end": PNG[:-12],
    "half an end": PNG[:-3],
    "more after the end": PNG + b"junk" * 9,
}


@pytest.mark.parametrize("name", SOUND)
def test_a_png_is_sound_if_its_pixels_are(name):
    np.testing.assert_array_equal(pixels(SOUND[name]), np.asarray(PICTURE))
    width, height, plain = inspect_image(SOUND[name])
    assert (width, height) == PICTURE.size and images.image_size(SOUND[name]) == PICTURE.size
    if plain:  # It is stored as it is, for readers that know less than this one.
        Image.open(io.BytesIO(SOUND[name])).load()


@pytest.mark.parametrize(
    "data",
    [
        with_segment(0xE2, PROFILE),
        with_segment(0xE2, PROFILE + b"\1\2ab"),
        with_segment(0xE1, b"Exif\0\0garbage"),
        with_segment(0xFE, b"c" * 60_000),
    ],
)
def test_a_jpeg_is_sound_if_its_pixels_are(data):
    np.testing.assert_array_equal(pixels(data), pixels(encode(PICTURE)))


JPEGS = [
    *({}, {"progressive": True}, {"restart_marker_rows": 1}, {"quality": 100}),
    {"progressive": True, "restart_marker_blocks": 1},
]


@pytest.mark.parametrize("options", JPEGS)
def test_a_jpeg_without_its_end_is_sound_if_no_pixel_is_missing(options):
    whole = encode(PICTURE, **options)
    for end in (b"", b"\xff", b"\0\0", bytes(99), b"junk"):
        np.testing.assert_array_equal(pixels(whole[:-2] + end), pixels(whole))
    # Also where scans begin, whose bits all look alike to a decoder.
    cuts = {*range(20, len(whole) - 2, 17), *range(len(whole) - 12, len(whole) - 2)}
    cuts |= {at + extra for at in range(len(whole)) if whole[at] == 0xFF for extra in (0, 12)}
    refused = 0
    parts = [whole[:cut] for cut in cuts if cut < len(whole) - 2]
    for part in [*parts, *(part + bytes(len(whole)) for part in parts)]:
        try:
            found = pixels(part)
        except UndecodableImageError:
            refused += 1
        else:  # What is missing are bits after the last pixel.
            np.testing.assert_array_equal(found, pixels(whole))
    assert refused >= 2 * len(parts) - 2


@pytest.mark.parametrize("form", ["bmp", "gif", "tiff", "webp", "avif", "ppm", "ico", "qoi"])
def test_a_picture_of_another_format_is_read_whatever_its_name(form):
    if form == "qoi" and "QOI" not in Image.SAVE:
        pytest.skip("this Pillow does not write it")
    image = PICTURE.resize((32, 32)) if form == "ico" else PICTURE
    if form == "gif":
        image = image.convert("P")
    options = {"lossless": True} if form == "webp" else {}
    data = encode(image, form, **options)
    near = np.abs(pixels(data).astype(int) - np.asarray(image.convert("RGB")).astype(int))
    assert near.mean() <= (4 if form == "avif" else 0)
    assert inspect_image(data) == (*image.size, False)
    with pytest.raises(UndecodableImageError):
        decode_image(data[: len(data) // 2], 3)


@pytest.mark.parametrize("form", ["gif", "webp", "png", "tiff"])
def test_of_several_frames_the_first_is_taken(form):
    frames = [noise(seed).convert("P") if form == "gif" else noise(seed) for seed in range(3)]
    options = {"lossless": True} if form == "webp" else {}
    data = encode(frames[0], form, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(pixels(data), np.asarray(frames[0].convert("RGB")))


BOMB = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html>", r"no known format, it begins with b'<!DOCTYPE ht'"),
        (b"\xff\xd8", "no known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "no known format"),
        (PNG[:20] + b"\1" + PNG[21:], "broken or of no known format"),
        (PNG[: len(PNG) // 2], "image file is truncated"),
        (PNG[:8] + BOMB + chunk(b"IDAT", b""), "DecompressionBombError: Image size"),
        (encode(Image.new("F", (3, 3)), "tiff"), "floating-point"),
        (encode(Image.new("I", (3, 3), 70_000), "tiff"), "32 bits"),
    ],
)
def test_the_reason_is_one_line(data, reason):
    for look in (inspect_image, lambda data: decode_image(data, 3)):
        with pytest.raises(UndecodableImageError, match=reason) as caught:
            look(data)
        assert str(caught.value).isprintable() and " at 0x" not in str(caught.value)


def test_the_orientation_in_exif_is_left_alone():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(encode(PICTURE, exif=exif), 3).size == PICTURE.size
