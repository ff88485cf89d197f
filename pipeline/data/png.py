"""PNG as `prepare` writes it, decoded many at a time, and whether other PNG bytes are whole.

Ours have one chunk of pixels, every row filtered by Up (PNG specification, 9.2): what each pixel
adds to the one above it. So a batch of them is undone row by row for all images at once, faster
than by a decoder that takes image by image whatever the filter.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHUNK, SUM = struct.Struct(">I4s"), struct.Struct(">I")  # length and kind; CRC-32
HEADER = struct.Struct(">IIBBBBB")
COLOUR_TYPES = {1: 0, 3: 2}  # by channels: grey, RGB
UP = 2
END = b"\0\0\0\0IEND\xaeB`\x82"  # the last chunk, whole
GROUP_BYTES = 1 << 20  # of images that are summed at once: what a core's cache holds
COMPRESSION = 3  # zlib's; 6 takes twice as long and saves 2 to 5 %


def encode_png(pixels: Bytes) -> bytes:
    """The PNG bytes of (H, W, C) uint8, C = 1 or 3."""
    height, width, channels = pixels.shape
    rows = np.empty((height, 1 + width * channels), np.uint8)
    rows[:, 0], rows[:, 1:] = UP, pixels.reshape(height, -1)
    rows[1:, 1:] -= rows[:-1, 1:].copy()
    packed = zlib.compress(rows.tobytes(), COMPRESSION)
    return _start(height, width, channels) + _chunk(b"IDAT", packed) + END


def decode_ours(data: Sequence[Bytes], out: Bytes) -> list[int]:
    """Decode what `encode_png` wrote into out: (n, C, H, W) uint8; the places of other files.

    data: the bytes of each. Raises RuntimeError for damaged ones.
    """
    _, channels, height, width = out.shape
    size = height * (1 + width * channels)
    group = max(1, GROUP_BYTES // size)
    rows = np.empty((min(group, len(data)), size), np.uint8)
    others: list[int] = []
    for at in range(0, len(data), group):
        some = data[at : at + group]
        others += [at + place for place in _decode(some, out[at : at + group], rows[: len(some)])]
    return others


def _decode(data: Sequence[Bytes], out: Bytes, rows: Bytes) -> list[int]:
    """The same of few images; rows: (n, H · (1 + W · C)), room for them before they are summed."""
    count, channels, height, width = out.shape
    start = _start(height, width, channels)
    ours = np.zeros(count, np.bool_)
    for place, item in enumerate(data):
        packed = _packed(item.data, start)
        if packed is None:
            continue
        inflate = zlib.decompressobj()
        try:
            raw = inflate.decompress(packed, rows.shape[1] + 1)  # so that one too many is seen
        except zlib.error:
            raise RuntimeError("a damaged PNG") from None
        if inflate.eof and len(raw) == rows.shape[1]:
            rows[place] = np.frombuffer(raw, np.uint8)
            ours[place] = True
    by_row = rows.reshape(count, height, -1)
    ours &= (by_row[:, :, 0] == UP).all(axis=1)
    if ours.all():
        out[...] = _added_up(by_row[:, :, 1:], channels)
    elif ours.any():
        out[ours] = _added_up(by_row[ours, :, 1:], channels)
    return np.flatnonzero(~ours).tolist()


def _added_up(rows: Bytes, channels: int) -> Bytes:
    """The pixels (n, C, H, W) of rows that each say what they add to the one above, (n, H, W · C).

    The rows are changed in place.
    """
    for above, line in pairwise(range(rows.shape[1])):
        np.add(rows[:, above], rows[:, line], out=rows[:, line])  # modulo 256
    return rows.reshape(*rows.shape[:2], -1, channels).transpose(0, 3, 1, 2)


def check_png(data: Bytes) -> None:
    """Raise RuntimeError for PNG bytes with a damaged chunk: torchvision can crash on them.

    Other formats pass. Checks the chunks' lengths and CRC-32 (PNG specification, 5.3).
    """
    view, at = data.data, 8
    if view[:8] != SIGNATURE:
        return
    end = len(view)
    while at + 12 <= end:
        length, kind = CHUNK.unpack_from(view, at)
        stop = at + 8 + length
        if stop + 4 > end or SUM.unpack_from(view, stop)[0] != zlib.crc32(view[at + 4 : stop]):
            break
        if kind == b"IEND":
            return
        at = stop + 4
    raise RuntimeError("a damaged PNG")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return CHUNK.pack(len(data), kind) + data + SUM.pack(zlib.crc32(kind + data))


def _start(height: int, width: int, channels: int) -> bytes:
    """All that stands before the chunk of pixels: 8 bits, neither interlaced nor of a palette."""
    header = HEADER.pack(width, height, 8, COLOUR_TYPES[channels], 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header)


def _packed(view: memoryview, start: bytes) -> memoryview | None:
    """The compressed rows of a file that has one chunk of them and no other; else None."""
    at, end = len(start), len(view) - 12
    if end < at + 12 or view[:at] != start or bytes(view[end:]) != END:
        return None
    length, kind = CHUNK.unpack_from(view, at)
    stop = at + 8 + length
    if kind != b"IDAT" or stop + 4 != end:
        return None
    if SUM.unpack_from(view, stop)[0] != zlib.crc32(view[at + 4 : stop]):
        raise RuntimeError("a damaged PNG")
    return view[at + 8 : stop]
