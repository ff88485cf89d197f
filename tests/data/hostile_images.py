"""Image files of few bytes that ask for much memory or time."""

from __future__ import annotations

import struct
import zlib

from tests.data.helpers import encoded, photo


def huge_png(width: int, height: int) -> bytes:
    """A PNG whose header promises far more pixels than its bytes hold."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def tiled_tiff(side: int, image_side: int = 64) -> bytes:
    """A grey TIFF of one deflated tile, which is larger than the image."""
    tile = zlib.compress(b"\0" * 1000)
    tags = {256: image_side, 257: image_side, 258: 8, 259: 8, 262: 1, 277: 1}
    tags |= {322: side, 323: side, 324: 8 + 2 + 10 * 12 + 4, 325: len(tile)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + tile


def jpeg_of_scans(count: int, side: int = 64) -> bytes:
    """A progressive JPEG whose last scan comes `count` times more."""
    data = encoded(photo(side, side), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * count + data[-2:]


def jpeg_of_exif(count: int) -> bytes:
    """A JPEG of so many segments of EXIF, 64 kB each; Pillow copies all before at each."""
    data, text = encoded(photo(), "JPEG"), b"Exif\0\0" + bytes(65_000)
    return data[:2] + (b"\xff\xe1" + struct.pack(">H", len(text) + 2) + text) * count + data[2:]


def icon_of(png: bytes) -> bytes:
    """An ICNS whose image of 128 by 128 pixels is this PNG."""
    entry = b"ic07" + struct.pack(">I", len(png) + 8) + png
    return b"icns" + struct.pack(">I", len(entry) + 8) + entry
