"""The whole of an image as a page can show it, from untrusted bytes.

Bytes of strangers go through `decoding.py`, which runs this in a process with limits.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

from PIL import Image

from pipeline.data.fit import turning
from pipeline.data.images import (
    BadImageError,
    Reserve,
    check_size,
    converted,
    readable_formats,
    short_reasons,
)

QUALITIES = (85, 75, 60, 40)  # of JPEG, at each size
SMALLER = (1.0, 0.75, 0.5, 0.35, 0.2)  # sizes that are tried, as shares of the side
GREY = ("1", "L", "F")  # and I;16


def whole_picture(
    data: bytes,
    *,
    side: int,
    most_bytes: int,
    max_pixels: int,
    bits: int = 16,
    reserve: Reserve = lambda pixels, held: None,
) -> bytes:
    """A JPEG of all of an image, upright, its longer side at most `side` pixels and never enlarged.

    The largest and best of SMALLER and QUALITIES that takes at most `most_bytes`. What is beside
    the pixels, as where a photograph was taken, is left behind. Raises BadImageError, also where
    none is small enough; bits and reserve: as `images.store` has them.
    """
    with short_reasons(), Image.open(io.BytesIO(data), formats=readable_formats()) as image:
        passed = check_size(image, data, max_pixels)
        mode = "L" if image.mode in GREY or image.mode.startswith("I") else "RGB"
        if image.format == "JPEG":  # decode large photographs at a fraction of their size
            image.draft(image.mode, (2 * side, 2 * side))
        reserve(passed, passed if image.info.get("progressive") else math.prod(image.size))
        image.load()
        turned = turning(image)
        picture = converted(image, mode, bits)
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        if turned is not None:
            picture = picture.transpose(turned)
        for share in SMALLER:
            limit = math.ceil(share * side)
            smaller = picture.copy()
            smaller.thumbnail((limit, limit), Image.Resampling.LANCZOS)
            found = best_jpeg(smaller, most_bytes, QUALITIES)
            if len(found) <= most_bytes:
                return found
        raise BadImageError(f"takes over {most_bytes} bytes")


def best_jpeg(image: Image.Image, most_bytes: int, qualities: Sequence[int]) -> bytes:
    """The image as JPEG at the first quality at which it fits, else at the last."""
    for quality in qualities:
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality, optimize=True)
        if out.tell() <= most_bytes:
            break
    return out.getvalue()


def data_uri(data: bytes, kind: str) -> str:
    """The bytes of a file of this kind, "PNG" or "JPEG", as a page holds them."""
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode()}"
