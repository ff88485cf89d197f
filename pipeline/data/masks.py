"""From a stranger's file of a mask to the class of each pixel of the stored square.

The value of a pixel is its grey level, its index in the palette or, in a mask of colours,
COLOUR + 0xRRGGBB; a transparent one is ignored. Bytes of strangers go through `decoding.py`, which
runs this in a process with limits.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.fit import ORIENTATIONS, Box, letterboxed, upright
from pipeline.data.images import BadImageError, Reserve, check_size, short_reasons, strips_of
from pipeline.files import LARGEST_FILE

IGNORED = 255  # the class of a pixel that counts in nothing
MOST_CLASSES = 254
FORMATS = ("PNG", "TIFF", "BMP", "GIF", "PPM")  # JPEG's pixels only come near their values
COLOUR, TRANSPARENT = 1 << 24, 1 << 25
MOST_VALUES = 1 << 12  # that are told apart
HEAD = struct.Struct(">III")
PNG_DEPTH = slice(24, 26)  # bits a pixel, and its kind
SCALED = {b"\2\0": 85, b"\4\0": 17}  # what Pillow multiplies grey levels of few bits with
Values = NDArray[np.uint32]


class MaskOf(NamedTuple):
    """A mask's file, and what is known of its image: upright width and height, and its turn."""

    data: bytes
    width: int
    height: int
    turn: int = 1

    def packed(self) -> bytes:
        """As one value."""
        return HEAD.pack(self.width, self.height, self.turn) + self.data


def class_square(
    packed: bytes,
    *,
    side: int,
    values: Sequence[tuple[int, int]],
    others: int | None,
    max_pixels: int,
    reserve: Reserve = lambda pixels, held: None,
) -> bytes:
    """The class (S, S) uint8 of each pixel of the square that holds the whole of a mask's image.

    packed: of MaskOf. values: pairs of a value and its class, IGNORED for none; others: the class
    of all other values, None where they have none. By the nearest pixel; IGNORED around the image.
    The mask lies as the upright image does or, where only this fits its size, as that did before it
    was turned. Raises BadImageError for another size, or a value of no class.
    """
    (width, height, turn), data = HEAD.unpack_from(packed), packed[HEAD.size :]
    with _opened(data, max_pixels, reserve) as image:
        turned = None
        if image.size != (width, height):
            turned = ORIENTATIONS.get(turn)
            if turned is None or upright(image.size, turn) != (width, height):
                across, down = image.size
                raise BadImageError(f"{across}x{down}, its image is {width}x{height}")
        classes = np.empty((image.height, image.width), np.uint8)
        for found, (left, top, right, bottom) in _values(image, data):
            classes[top:bottom, left:right] = _classes(found, values, others)
        square = letterboxed(
            Image.fromarray(classes), image.size, side, turned, Image.Resampling.NEAREST, IGNORED
        )
        return np.array(square, np.uint8).tobytes()


def values_in(
    data: bytes,
    *,
    max_pixels: int,
    most_values: int = MOST_VALUES,
    reserve: Reserve = lambda pixels, held: None,
) -> bytes:
    """The values that a mask has, each once, ascending, as the bytes of uint32.

    Raises BadImageError for over `most_values`.
    """
    with _opened(data, max_pixels, reserve) as image:
        values: NDArray[Any] = np.empty(0, np.uint32)
        for found, _ in _values(image, data):
            values = np.union1d(values, found)
            if len(values) > most_values:
                raise BadImageError(f"over {most_values} values, so they are no classes")
        return bytes(values[values != TRANSPARENT].astype(np.uint32))


def value_text(value: int) -> str:
    """A value as a person knows it."""
    return f"#{value - COLOUR:06x}" if value >= COLOUR else str(value)


@contextmanager
def _opened(data: bytes, max_pixels: int, reserve: Reserve) -> Iterator[Any]:
    """The decoded image; what is wrong with it is said of the mask."""
    try:
        if not data:
            raise BadImageError("empty")
        if len(data) > LARGEST_FILE:
            raise BadImageError(f"larger than {LARGEST_FILE >> 20} MiB")
        if data.startswith(b"\xff\xd8\xff"):
            raise BadImageError("a JPEG, which does not keep values; save it as PNG")
        with short_reasons(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            passed = check_size(image, data, max_pixels)
            reserve(passed, math.prod(image.size))
            image.load()
            yield image
    except BadImageError as error:
        raise BadImageError(f"mask: {error}") from None


def _values(image: Image.Image, data: bytes) -> Iterator[tuple[Values, Box]]:
    """The values (h, w) of parts of a mask, each with its place."""
    scale = SCALED.get(data[PNG_DEPTH], 1) if image.format == "PNG" and image.mode == "L" else 1
    for strip, box in strips_of(image):
        if strip.mode in ("RGB", "RGBA"):
            channels = np.asarray(strip).astype(np.uint32)
            red, green, blue = channels[:, :, 0], channels[:, :, 1], channels[:, :, 2]
            values = ((red << 16 | green << 8 | blue) + COLOUR).astype(np.uint32)
        elif strip.mode in ("1", "L", "P", "LA", "PA") or strip.mode.startswith("I"):
            plain = strip.getchannel(0) if strip.mode in ("LA", "PA") else strip
            levels = np.asarray(plain)
            if levels.dtype != np.bool_ and (levels.min() < 0 or levels.max() >= 1 << 16):
                raise BadImageError("values of over 16 bits")
            values = levels.astype(np.uint32) // np.uint32(scale)
        else:
            raise BadImageError(f"of mode {strip.mode}; save it as PNG of class numbers")
        values[_clear(strip, values, image.info.get("transparency"))] = TRANSPARENT
        yield values, box


def _clear(strip: Image.Image, values: Values, transparency: Any) -> NDArray[np.bool_]:
    """Which pixels are transparent: by their alpha, or by the value, the colour or the alphas of
    the palette's indices, which a PNG or GIF names."""
    if strip.mode in ("LA", "PA", "RGBA"):
        return np.asarray(np.asarray(strip.getchannel("A")) == 0)
    if isinstance(transparency, bytes):
        alphas = np.full(256, 255, np.uint8)
        alphas[: len(transparency)] = np.frombuffer(transparency[:256], np.uint8)
        return np.asarray(alphas[values] == 0 if strip.mode == "P" else values == TRANSPARENT)
    if isinstance(transparency, tuple):
        red, green, blue = transparency
        transparency = COLOUR + (red << 16 | green << 8 | blue)
    return np.asarray(values == (TRANSPARENT if transparency is None else transparency))


def _classes(
    found: Values, values: Sequence[tuple[int, int]], others: int | None
) -> NDArray[np.uint8]:
    """The class of each value (h, w)."""
    pairs = sorted([*map(tuple, values), (TRANSPARENT, IGNORED)])
    if pairs[-2][0] < COLOUR and found.min() >= COLOUR:  # grey levels in three channels
        red, green, blue = found >> 16 & 255, found >> 8 & 255, found & 255
        grey = (found != TRANSPARENT) & (red == green) & (green == blue)
        found = np.where(grey, blue, found)
    keys, classes = (np.array(each) for each in zip(*pairs, strict=True))
    places = np.searchsorted(keys, found).clip(max=len(keys) - 1)
    named = keys[places] == found
    if not named.all() and others is None:
        raise BadImageError(f"value {value_text(int(found[~named].min()))}: no class")
    return np.where(named, classes[places], others or 0).astype(np.uint8)
