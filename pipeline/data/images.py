"""From untrusted bytes to a square of pixels, through Pillow, and to what is stored of it.

Only the raster formats below are opened: no format that starts another program. Sizes are read
from the header before anything is decoded. Transparency is laid on white. Bytes of strangers go
through `decoding.py`, which runs this in a process with limits.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.data.encoding import PNG_START, encode_square, is_whole, with_checksum
from pipeline.data.fit import ORIENTATIONS, cropped, letterboxed, turn_of, upright
from pipeline.files import LARGEST_FILE, open_regular

Pixels = NDArray[np.uint8]
FORMATS = (  # those that are told by little come last
    *("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF", "JPEG2000", "DDS", "ICNS"),
    *("PPM", "PSD", "QOI", "SGI", "SUN", "MSP", "DIB", "ICO", "PCX", "XBM", "TGA"),
)
WEAK_FORMATS = {"DIB", "ICO", "PCX", "TGA", "XBM"}  # known by their ending, not by content
STORED = ("PNG", "JPEG")
SCAN = re.compile(rb"\xff\xda\x00[\x06\x08\x0a\x0c][\x01-\x04]")  # the start of one in a JPEG
MOST_SCANS = 100  # of a JPEG; a progressive one has about 10, and each passes over all pixels
TILE_SIDES = 322, 323  # TIFF's tags of a tile's width and height
MOST_ROWS = 4_000_000  # each takes 12 bytes at least
CONVERTED = 1 << 22  # pixels at a time
Reserve = Callable[[int, int], None]


class BadImageError(Exception):
    """Bytes that are no usable image; the message is the short reason kept in quarantine."""


@dataclass(frozen=True)
class StoredImage:
    """An image as it is stored: its bytes, and its pixels (S, S, C) uint8, before any JPEG of ours.

    width, height: of the upright image as it came, pixels; mode: Pillow's; largest: its largest
    value where it has 16 bits, else 0; turn: how its file says that it is to be turned, by EXIF: a
    key of fit.ORIENTATIONS, else 1.
    """

    data: bytes
    pixels: Pixels
    animated: bool
    width: int
    height: int
    mode: str
    largest: int
    turn: int = 1

    @property
    def side(self) -> int:
        """The shorter one of the image as it came."""
        return min(self.width, self.height)


@cache
def readable_formats() -> tuple[str, ...]:
    """Those of FORMATS that the installed Pillow opens; HEIF where pillow-heif is installed."""
    Image.init()
    with suppress(ImportError):
        import_module("pillow_heif").register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def endings() -> frozenset[str]:
    """The endings of readable files, lower case, with the dot."""
    formats = {*readable_formats(), "MPO"}
    known = Image.registered_extensions().items()
    return frozenset(ending for ending, name in known if name in formats)


def decode(
    data: bytes,
    *,
    image_size: int,
    channels: int,
    max_pixels: int,
    bits: int = 16,
    whole: bool = False,
) -> Pixels:
    """Decode image bytes to (S, S, C) uint8: upright, cropped to the square or whole (see fit.py).

    bits: those in use of images of 16 bits; larger values are white.

    Shrinking is bicubic with antialiasing, enlarging bilinear; the first frame of an animation
    counts. Raises BadImageError with a short reason.
    """
    return store(
        data,
        image_size=image_size,
        channels=channels,
        max_pixels=max_pixels,
        bits=bits,
        whole=whole,
        encode=False,
    ).pixels


def store(
    data: bytes,
    *,
    image_size: int,
    channels: int,
    max_pixels: int,
    bits: int = 16,
    whole: bool = False,
    encode: bool = True,
    reserve: Reserve = lambda pixels, held: None,
) -> StoredImage:
    """Decode as `decode` does, and encode what is stored.

    A JPEG that already is of that size and mode stays as it is, behind a checksum; all else is
    encoded anew (encoding.py). encode: False for no bytes but the pixels. reserve: called before
    decoding with the pixels that are passed over, and those in memory.
    """
    if not data:
        raise BadImageError("empty")
    if len(data) > LARGEST_FILE:
        raise BadImageError(f"larger than {LARGEST_FILE >> 20} MiB")
    with short_reasons(), Image.open(io.BytesIO(data), formats=readable_formats()) as image:
        passed = check_size(image, data, max_pixels)
        animated = image.format in ("GIF", "PNG", "WEBP") and bool(
            getattr(image, "is_animated", False)
        )
        mode, size, target = image.mode, image.size, "L" if channels == 1 else "RGB"
        keep = _may_stay(image, data, image_size, target)
        if image.format == "JPEG":  # decode large photographs at a fraction of their size
            image.draft(image.mode, (2 * image_size, 2 * image_size))
        reserve(passed, passed if image.info.get("progressive") else math.prod(image.size))
        image.load()
        scan = mode.startswith("I")
        largest = max(int(np.asarray(part).max()) for part, _ in strips_of(image)) if scan else 0
        turn, plain = turn_of(image), converted(image, target, bits)
        turned = ORIENTATIONS.get(turn)
        if whole:
            square = letterboxed(plain, size, image_size, turned)
        else:
            square = cropped(plain, image_size)
            square = square if turned is None else square.transpose(turned)
        pixels: Pixels = np.array(square, dtype=np.uint8).reshape(image_size, image_size, channels)
        if not encode:
            kept = b""
        elif keep and turned is None:
            kept = with_checksum(data)
        else:
            enlarged = (max(size) if whole else min(size)) < image_size
            kept = encode_square(pixels, image.format, mode, enlarged=enlarged)
        return StoredImage(kept, pixels, animated, *upright(size, turn), mode, largest, turn)


def check_header(path: Path) -> None:
    """Raises BadImageError where a file does not begin as an image known by its content does."""
    formats = [name for name in readable_formats() if name not in WEAK_FORMATS]
    # never waits: a link may lead to a device or a pipe of the kernel
    with short_reasons(), open_regular(path) as (file, _), Image.open(file, formats=formats):
        pass


def decode_stored(data: bytes) -> Pixels:
    """The pixels (H, W, C) uint8 of a PNG or JPEG of ours; raises BadImageError."""
    with short_reasons(), Image.open(io.BytesIO(data), formats=STORED) as image:
        array: Pixels = np.array(image, dtype=np.uint8)
    return array[:, :, None] if array.ndim == 2 else array


def verify_stored(data: bytes) -> None:
    """Compare the checksums of a PNG or JPEG of ours, which decoding passes over; raises
    BadImageError."""
    if data.startswith(PNG_START):
        with short_reasons(), Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.verify()
    elif not is_whole(data):
        raise BadImageError("not the bytes that were stored")


@contextmanager
def short_reasons() -> Iterator[None]:
    """Turn whatever hostile bytes lead Pillow's decoders to into BadImageError."""
    try:
        yield
    except (BadImageError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise BadImageError("too many pixels") from None
    except UnidentifiedImageError:
        raise BadImageError("not an image") from None
    except Exception as error:
        text = " ".join(str(error).split())
        if "truncat" in text.lower() or isinstance(error, EOFError):
            raise BadImageError("truncated") from None
        shown = text or type(error).__name__
        raise BadImageError(f"can't be decoded: {shown}"[:120]) from None


def check_size(image: Image.Image, data: bytes, max_pixels: int) -> int:
    """The pixels that decoding passes over, TIFF's whole tiles."""
    width, height = image.size
    if width < 1 or height < 1:
        raise BadImageError(f"no pixels: {width}x{height}")
    if image.format in ("JPEG", "MPO") and len(SCAN.findall(data)) > MOST_SCANS:
        raise BadImageError(f"a JPEG of more than {MOST_SCANS} scans")
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    across, down = (int(tags.get(tag, 1)) for tag in TILE_SIDES)
    pixels = -(-width // across) * across * -(-height // down) * down
    if pixels > max_pixels or height > MOST_ROWS:
        tiles = f" in tiles of {across}x{down}" if across * down > 1 else ""
        raise BadImageError(f"too many pixels: {width}x{height}{tiles}")
    return pixels


def _may_stay(image: Image.Image, data: bytes, image_size: int, target: str) -> bool:
    """Whether the file is a JPEG of the right size and mode, without much beside its pixels."""
    return (
        image.format == "JPEG"
        and image.size == (image_size, image_size)
        and image.mode == target
        and len(data) <= 2 * image_size * image_size * len(target) + 4096
    )


def converted(image: Image.Image, target: str, bits: int) -> Image.Image:
    """The image in mode L or RGB: 16 bits scaled, palettes resolved, transparency on white.

    By rows, so that no other copy of a large image is in memory.
    """
    if image.mode == target and "transparency" not in image.info:
        return image
    whole = Image.new(target, image.size)
    for strip, box in strips_of(image):
        whole.paste(_convert(strip, target, bits), box)
    return whole


def strips_of(image: Image.Image) -> Iterator[tuple[Image.Image, tuple[int, int, int, int]]]:
    """Its parts of at most CONVERTED pixels, each with its place."""
    across = min(image.width, CONVERTED)
    down = CONVERTED // across
    for top in range(0, image.height, down):
        for left in range(0, image.width, across):
            right, bottom = min(left + across, image.width), min(top + down, image.height)
            yield image.crop((left, top, right, bottom)), (left, top, right, bottom)


def _convert(image: Image.Image, target: str, bits: int) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        image = _eight_bits(image, bits)
    elif image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, rgba)
    elif image.mode == "P":
        image = image.convert("RGB")
    return image if image.mode == target else image.convert(target)


def _eight_bits(image: Image.Image, bits: int) -> Image.Image:
    values = np.asarray(image, dtype=np.float64)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise BadImageError(f"pixels of an unusual type: {image.mode}")
    return Image.fromarray(
        np.round(values.clip(max=2**bits - 1) * (255 / (2**bits - 1))).astype(np.uint8)
    )
