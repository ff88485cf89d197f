"""How a square of pixels is stored: photographs as JPEG, all else losslessly as PNG.

A photograph is a JPEG file, or one in colours that takes far fewer bytes as JPEG. Greys of other
files (scans, X-rays), palettes, drawings, text and small or enlarged squares are none. Each file
carries a checksum, since streams read parts of a shard, which its SHA-256 does not cover.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"
COLOUR_TYPES = {1: 0, 3: 2}  # of PNG, by channels: grey, RGB
UP = 2  # the filter of a row that says what each pixel adds to the one above
COMPRESSION = 3  # zlib's; 6 takes twice as long and saves 2 to 5 %
# Of what is no photograph: a code for every 4,096 bytes, and none for repeats that are short.
SMALL = (6, zlib.DEFLATED, zlib.MAX_WBITS, 6, zlib.Z_FILTERED)
QUALITY = 95  # of JPEG
SMALLEST_JPEG = 96  # pixels a side; the smallest at which photographs were found to lose nothing
LARGEST_SHARE = 0.6  # of a PNG's bytes; photographs take 0.26 to 0.55, text from 0.7, drawings 1
JPEG_FORMATS = ("JPEG", "MPO")
COLOUR_MODES = ("RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV")  # of 8 bits
JPEG_START = b"\xff\xd8\xff\xfe\0\x0bcrc32"  # and a comment in it, which the CRC-32 ends


def encode_square(pixels: Pixels, file_format: str | None, mode: str, *, enlarged: bool) -> bytes:
    """The bytes of (S, S, C) uint8 that came in a file of this format and mode, as Pillow names
    them: JPEG of a photograph that was not enlarged, else PNG."""
    if enlarged or len(pixels) < SMALLEST_JPEG:
        return encode_png(pixels)
    if file_format in JPEG_FORMATS:
        return encode_jpeg(pixels)
    png = encode_png(pixels)
    if mode not in COLOUR_MODES or (pixels == pixels[:, :, :1]).all():
        return png
    jpeg = encode_jpeg(pixels)
    return jpeg if len(jpeg) <= LARGEST_SHARE * len(png) else png


def encode_png(pixels: Pixels, *, up: slice = slice(None), small: bool = False) -> bytes:
    """The PNG bytes of (H, W, C) uint8, C = 1 or 3; the same of the same pixels for ever.

    up: the rows that are filtered by Up (PNG specification, 9.2), which is fast to write and to
    read; of class numbers, which are no amounts, better none. small: for maps and masks, a quarter
    smaller in twice the time.
    """
    height, width, channels = pixels.shape
    rows, above = np.zeros((2, height, 1 + width * channels), np.uint8)
    rows[:, 1:] = pixels.reshape(height, -1)
    above[1:] = rows[:-1]
    rows[up] -= above[up]
    rows[up, 0] = UP
    header = struct.pack(">IIBBBBB", width, height, 8, COLOUR_TYPES[channels], 0, 0, 0)
    deflate = zlib.compressobj(*SMALL) if small else zlib.compressobj(COMPRESSION)
    packed = deflate.compress(rows.tobytes()) + deflate.flush()
    return PNG_START + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + PNG_END


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def encode_jpeg(pixels: Pixels) -> bytes:
    """The JPEG bytes of (H, W, C) uint8, C = 1 or 3, with a checksum.

    Of QUALITY, colours at full resolution (4:4:4), not progressive; the same of the same pixels for
    one version of Pillow and its libjpeg.
    """
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    out = io.BytesIO()
    try:
        image.save(out, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    except OSError:  # its own Huffman tables need all in a buffer, too small for noise
        out = io.BytesIO()
        image.save(out, "JPEG", quality=QUALITY, subsampling=0)
    return with_checksum(out.getvalue())


def with_checksum(jpeg: bytes) -> bytes:
    """A JPEG behind a comment with the CRC-32 of all that follows."""
    return JPEG_START + _crc(jpeg[2:]) + jpeg[2:]


def is_whole(jpeg: bytes) -> bool:
    """Whether a JPEG is as `with_checksum` left it."""
    start, end = len(JPEG_START), len(JPEG_START) + 4
    return jpeg[:start] == JPEG_START and jpeg[start:end] == _crc(jpeg[end:])


def _crc(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))


def format_of(data: bytes) -> str:
    """What the name of a stored image ends in, and the second part of its media type."""
    return "png" if data.startswith(PNG_START) else "jpeg"
