"""How an image lies in the stored square, and the way back to its own pixels.

Cropped: its centre square, scaled. Whole (letterboxed): all of it, scaled until its longer side is
the square's, in the middle; the rest is 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Size = tuple[int, int]
Box = tuple[int, int, int, int]
ORIENTATION_TAG = 0x0112
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
FIRST_SIDEWAYS = 5  # of ORIENTATIONS: from here on width and height change places


def turning(image: Image.Image) -> Image.Transpose | None:
    """What makes it upright; None for nothing."""
    return ORIENTATIONS.get(turn_of(image))


def turn_of(image: Image.Image) -> int:
    """How it is to be turned, by EXIF: a key of ORIENTATIONS; 1: not, or that can't be read."""
    try:
        turn = int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # broken EXIF leaves a good image as it is
        return 1
    return turn if turn in ORIENTATIONS else 1


def upright(size: tuple[int, int], turn: int) -> tuple[int, int]:
    """The width and height of an image once it is turned."""
    return (size[1], size[0]) if turn >= FIRST_SIDEWAYS else size


def place_of(width: int, height: int, side: int) -> Box:
    """Where a whole image of that size lies in the square: left, top, right, bottom.

    The shorter side is rounded, half up, and at least 1 pixel; of an odd rest the larger part is
    right and below.
    """
    across, down = _scaled(width, height, side)
    left, top = (side - across) // 2, (side - down) // 2
    return left, top, left + across, top + down


def padding(sizes: NDArray[np.int64], side: int) -> NDArray[np.bool_]:
    """Which pixels of their squares lie outside whole images of these sizes (n, 2): (n, S, S)."""
    outside = np.ones((len(sizes), side, side), np.bool_)
    for place, (width, height) in zip(outside, sizes.tolist(), strict=True):
        left, top, right, bottom = place_of(width, height, side)
        place[top:bottom, left:right] = False
    return outside


def _scaled(width: int, height: int, side: int) -> Size:
    longer = max(width, height)
    across, down = ((2 * each * side + longer) // (2 * longer) for each in (width, height))
    return max(1, across), max(1, down)


def cropped(image: Image.Image, side: int) -> Image.Image:
    """The centre square, resized; the same as resizing the shorter side and then cropping."""
    length = min(image.size)
    left, top = (image.width - length) // 2, (image.height - length) // 2
    box = (left, top, left + length, top + length)
    if length == side:
        return image.crop(box)
    resample = Image.Resampling.BICUBIC if length > side else Image.Resampling.BILINEAR
    return image.resize((side, side), resample, box=box, reducing_gap=3.0)


def letterboxed(
    image: Image.Image,
    size: Size,
    side: int,
    turned: Image.Transpose | None,
    resample: Image.Resampling | None = None,
    rest: int = 0,
) -> Image.Image:
    """The whole image, made upright by `turned`, in the square.

    size: that of its file, of which `image` may be a reduced version; resample: None for bicubic
    where it shrinks, bilinear where it grows; rest: the value around it.
    """
    inner = _scaled(*size, side)
    if resample is None:
        shrinks = max(size) > side
        resample = Image.Resampling.BICUBIC if shrinks else Image.Resampling.BILINEAR
    if image.size != inner:
        gap = None if resample == Image.Resampling.NEAREST else 3.0
        image = image.resize(inner, resample, reducing_gap=gap)
    if turned is not None:
        image = image.transpose(turned)
    square = Image.new(image.mode, (side, side), rest if image.mode == "L" else (rest,) * 3)
    left, top, _, _ = place_of(*image.size, side)
    square.paste(image, (left, top))
    return square


def own_pixels(square: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Values (S, S) of the square of a whole image, at its own pixels (height, width): of each the
    nearest."""
    part = Image.fromarray(square).crop(place_of(width, height, len(square)))
    return np.array(part.resize((width, height), Image.Resampling.NEAREST), np.uint8)
