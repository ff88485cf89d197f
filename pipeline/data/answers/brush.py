"""Label Studio's brush masks: the bits of the format of thi.ng's rle-pack, which it exports.

In this order: the number of words in 32 bits; bits of a word - 1 in 5; of four sizes their bits - 1
in 4 each. Then packets until all words are there: 1 bit, whether one word is repeated; 2 bits,
which of the four sizes; in that many bits the number of words - 1; the word, or all of them.
The words are the bytes of RGBA, row by row; a pixel belongs to the mask where it is opaque.

https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

CHANNELS, WORD = 4, 8  # bytes of a pixel, bits of each
OPAQUE = 128  # of 255: half of a pixel that a stroke's edge crosses
SIZES = (3, 4, 8, 16)  # bits of lengths, as Label Studio's own converter has them
HEAD = 32 + 5 + 4 * len(SIZES)  # bits
MOST_BYTES = 4 << 20  # of one region, packed: some 2.5 million packets, and seconds

Flags = NDArray[np.bool_]


def pack_brush(mask: Flags) -> list[int]:
    """The bytes of a mask (H, W)."""
    pixels = mask.ravel()
    ends = [0, *(np.flatnonzero(np.diff(pixels)) + 1).tolist(), pixels.size]
    bits = [f"{pixels.size * CHANNELS:032b}{WORD - 1:05b}"]
    bits += [f"{size - 1:04b}" for size in SIZES]
    for start, end in pairwise(ends):
        word, left = 255 * int(pixels[start]), CHANNELS * (end - start)
        while left:
            place = next((n for n, size in enumerate(SIZES) if left <= 1 << size), len(SIZES) - 1)
            some = min(left, 1 << SIZES[place])
            bits.append(f"1{place:02b}{some - 1:0{SIZES[place]}b}{word:08b}")
            left -= some
    text = "".join(bits)
    count = -(-len(text) // 8)
    return list(int(text.ljust(8 * count, "0"), 2).to_bytes(count))


def unpack_brush(data: bytes, width: int, height: int) -> Flags:
    """The mask (H, W) of packed bytes; raises ValueError for what is none of that size."""
    if len(data) > MOST_BYTES:
        raise ValueError(f"a brush region of over {MOST_BYTES >> 20} MiB")
    bits = _Bits(data)
    count, word = bits.read(32), bits.read(5) + 1
    sizes = [bits.read(4) + 1 for _ in SIZES]
    if count != CHANNELS * width * height or word != WORD:
        raise ValueError(f"a brush region is not of {width}x{height} pixels")
    words, at = np.empty(count, np.uint8), 0
    while at < count:
        repeated = bits.read(1)
        end = at + 1 + bits.read(sizes[bits.read(2)])
        if end > count:
            raise ValueError("a brush region has more pixels than its image")
        words[at:end] = bits.read(WORD) if repeated or end == at + 1 else bits.words(end - at)
        at = end
    return words.reshape(height, width, CHANNELS)[:, :, -1] >= OPAQUE


class _Bits:
    """Bytes that are read as numbers of any bits, the highest first."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, count: int) -> int:
        """A number of at most 32 bits; raises ValueError where there are fewer."""
        first, end = self._at >> 3, self._at + count
        self._at = end
        if end > 8 * len(self._data):
            raise ValueError("a brush region ends too early")
        last = -(-end // 8)
        return int.from_bytes(self._data[first:last]) >> (8 * last - end) & ((1 << count) - 1)

    def words(self, count: int) -> NDArray[np.uint8]:
        """So many bytes; raises as `read`."""
        first, shift, end = self._at >> 3, self._at & 7, self._at + WORD * count
        self._at = end
        if end > 8 * len(self._data):
            raise ValueError("a brush region ends too early")
        found = np.unpackbits(np.frombuffer(self._data[first : -(-end // 8)], np.uint8))
        return np.packbits(found[shift : shift + WORD * count])
