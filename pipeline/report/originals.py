"""The images of a page as the user has them, larger, for whoever opens one."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image

from pipeline.data.decoding import decode_pictures
from pipeline.data.originals import original_pictures
from pipeline.params import DataParams
from pipeline.report.galleries import SIDE, ShownImage, data_uri

PICTURE_SIDE = 768  # pixels
MOST_PICTURE_BYTES = 60_000  # of one
MOST_PAGE_BYTES = 9_000_000  # of all
FEWEST_BYTES = 12_000  # less is worse than the thumbnail


@dataclass(frozen=True)
class Picture:
    """An image larger than its thumbnail; whole: from the user's file, else the stored crop."""

    uri: str
    whole: bool


def shown_pictures(images: Iterable[ShownImage], data: DataParams) -> dict[str, Picture]:
    """The pictures of the images of a page, by id, where they are larger than the thumbnails.

    Of the user's own files where these are still there, else of what is stored. All take at most
    MOST_PAGE_BYTES together; on a page of very many images the first alone have one.
    """
    stored = {image.id: image.stored for image in images}
    ids = list(stored)[: MOST_PAGE_BYTES // FEWEST_BYTES]
    if not ids:
        return {}
    most = min(MOST_PICTURE_BYTES, MOST_PAGE_BYTES // len(ids))
    made = original_pictures(data, ids, side=PICTURE_SIDE, most_bytes=most)
    lost = [name for name in ids if name not in made and _side(stored[name]) > SIDE]
    crops = decode_pictures(
        [stored[name] for name in lost],
        side=PICTURE_SIDE,
        most_bytes=most,
        max_pixels=data.max_pixels,
    )
    crops_by_id = {n: crop for n, crop in zip(lost, crops, strict=True) if isinstance(crop, bytes)}
    return {
        name: Picture(data_uri(picture, "JPEG"), whole=name in made)
        for name, picture in (made | crops_by_id).items()
        if _side(picture) > min(SIDE, _side(stored[name]))
    }


def _side(image: bytes) -> int:
    """The longer side, pixels, of an image of ours; only its header is read."""
    with Image.open(io.BytesIO(image), formats=("PNG", "JPEG")) as opened:
        return max(opened.size)
