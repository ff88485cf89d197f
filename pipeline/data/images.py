"""From untrusted bytes to a square of stored pixels, through Pillow, and back to PNG.

Only the raster formats below are opened: no format that starts another program. Sizes are read
from the header before anything is decoded. Transparency is laid on white.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.data.png import encode_png

Pixels = NDArray[np.uint8]

FORMATS = (  # those that are told by little come last
    *("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF", "JPEG2000", "DDS", "ICNS"),
    *("PPM", "PSD", "QOI", "SGI", "SUN", "MSP", "DIB", "ICO", "PCX", "XBM", "TGA"),
)
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
_WARNINGS_LOCK = threading.Lock()


class BadImageError(Exception):
    """Bytes that are no usable image; the message is the short reason kept in quarantine."""


@dataclass(frozen=True)
class StoredImage:
    """An image as it is kept: its file bytes, and its pixels (S, S, C) uint8."""

    data: bytes
    pixels: Pixels
    animated: bool


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
    data: bytes, *, image_size: int, channels: int, max_pixels: int, bits: int = 16
) -> Pixels:
    """Decode image bytes to (S, S, C) uint8: upright, shorter side to S, centre cropped.

    bits: those in use of images of 16 bits; larger values are white.

    Shrinking is bicubic with antialiasing, enlarging bilinear; the first frame of an animation
    counts. Raises BadImageError with a short reason.
    """
    return store(
        data, image_size=image_size, channels=channels, max_pixels=max_pixels, bits=bits
    ).pixels


def store(
    data: bytes, *, image_size: int, channels: int, max_pixels: int, bits: int = 16
) -> StoredImage:
    """Decode as `decode` does, and encode what is kept.

    A JPEG that already is of that size and mode stays as it is; all else becomes a new PNG, of the
    kind that is decoded fastest.
    """
    if not data:
        raise BadImageError("empty")
    with _quiet_pillow():
        try:
            with Image.open(io.BytesIO(data), formats=readable_formats()) as image:
                return _stored(image, data, image_size, channels, max_pixels, bits)
        except (BadImageError, MemoryError, ImportError):
            raise
        except Image.DecompressionBombError:
            raise BadImageError("too many pixels") from None
        except UnidentifiedImageError:
            raise BadImageError("not an image") from None
        except Exception as error:  # Pillow's decoders raise whatever hostile bytes lead them to
            raise BadImageError(_reason(error)) from None


def decode_png(data: bytes) -> Pixels:
    """The pixels (H, W, C) uint8 of bytes that `store` kept."""
    with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
        array: Pixels = np.array(image, dtype=np.uint8)
    return array[:, :, None] if array.ndim == 2 else array


def _stored(
    image: Image.Image, data: bytes, image_size: int, channels: int, max_pixels: int, bits: int
) -> StoredImage:
    width, height = image.size
    if width * height > max_pixels:
        raise BadImageError(f"too many pixels: {width}x{height}")
    if width < 1 or height < 1:
        raise BadImageError(f"no pixels: {width}x{height}")
    animated = image.format in ("GIF", "PNG", "WEBP") and bool(getattr(image, "is_animated", False))
    target = "L" if channels == 1 else "RGB"
    keep = _may_stay(image, data, image_size, target)
    if image.format == "JPEG":  # decode large photographs at a fraction of their size
        image.draft(image.mode, (2 * image_size, 2 * image_size))
    image.load()
    orientation = _orientation(image)
    square = _square(_converted(image, target, bits), image_size)
    if orientation in ORIENTATIONS:
        square, keep = square.transpose(ORIENTATIONS[orientation]), False
    pixels: Pixels = np.array(square, dtype=np.uint8).reshape(image_size, image_size, channels)
    keep = keep and _reads_back(data, pixels)
    return StoredImage(data if keep else encode_png(pixels), pixels, animated)


def _may_stay(image: Image.Image, data: bytes, image_size: int, target: str) -> bool:
    """Whether the file is a JPEG of the right size and mode, without much beside its pixels."""
    return (
        image.format == "JPEG"
        and image.size == (image_size, image_size)
        and image.mode == target
        and len(data) <= 2 * image_size * image_size * len(target) + 4096
    )


def _reads_back(data: bytes, pixels: Pixels) -> bool:
    """Whether the decoder that training uses reads the same pixels from a file."""
    import torch  # only where a source holds such files

    from pipeline.data.tensors import decode_into

    out = torch.empty((1, pixels.shape[2], *pixels.shape[:2]), dtype=torch.uint8)
    try:
        decode_into([np.frombuffer(data, np.uint8)], out)
    except RuntimeError:
        return False
    return bool((out[0].permute(1, 2, 0).numpy() == pixels).all())


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) where there is none or it can't be read."""
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # broken EXIF leaves a good image as it is
        return 1


def _converted(image: Image.Image, target: str, bits: int) -> Image.Image:
    """The image in mode L or RGB: 16 bits scaled, palettes resolved, transparency on white."""
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


def _square(image: Image.Image, size: int) -> Image.Image:
    """The centre square, resized; the same as resizing the shorter side and then cropping."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    if side == size:
        return image.crop((left, top, left + side, top + side))
    resample = Image.Resampling.BICUBIC if side > size else Image.Resampling.BILINEAR
    box = (left, top, left + side, top + side)
    return image.resize((size, size), resample, box=box, reducing_gap=3.0)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "truncat" in text.lower() or isinstance(error, EOFError):
        return "truncated"
    return f"can't be decoded: {text or type(error).__name__}"[:120]


_quiet_users = 0
_quiet_filters: warnings.catch_warnings[None] | None = None


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Silence Pillow's warnings while any thread decodes; a plain filter would race."""
    global _quiet_users, _quiet_filters
    with _WARNINGS_LOCK:
        if _quiet_users == 0:
            _quiet_filters = warnings.catch_warnings()
            _quiet_filters.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        _quiet_users += 1
    try:
        yield
    finally:
        with _WARNINGS_LOCK:
            _quiet_users -= 1
            if _quiet_users == 0 and _quiet_filters is not None:
                _quiet_filters.__exit__(None, None, None)
                _quiet_filters = None
