"""Images as small data URIs, so that a page of hundreds stays a few megabytes."""

from __future__ import annotations

import base64
import io

from PIL import Image

SIDE = 96  # of a thumbnail, pixels; the page shows it at about this size
MOST_BYTES = 6000
QUALITIES = (85, 70, 50, 30, 10)


def thumbnail_uri(data: bytes) -> str:
    """A stored image as a data URI of at most 4/3 × MOST_BYTES characters, and a few.

    What is small already stays as it is, to the pixel. Larger images are shrunk to SIDE and become
    JPEG, at the best of QUALITIES that fits.
    """
    image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
    if max(image.size) <= SIDE and len(data) <= MOST_BYTES:
        return _uri(data, (image.format or "PNG").lower())
    shrunk = image.convert("L" if image.mode in ("1", "L", "I;16") else "RGB")
    shrunk.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    for quality in QUALITIES:
        out = io.BytesIO()
        shrunk.save(out, "JPEG", quality=quality, optimize=True)
        if len(out.getvalue()) <= MOST_BYTES:
            break
    return _uri(out.getvalue(), "jpeg")


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
