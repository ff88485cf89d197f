"""The images of a page as the user has them, found by id again, larger, for whoever opens one.

Sources may have moved since `prepare`: what is not found, or is no image any more, is left out.
"""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from PIL import Image

from pipeline.data.decoding import decode_pictures
from pipeline.data.pictures import data_uri
from pipeline.data.sources import ColumnNames
from pipeline.data.sources.parquet_files import (
    common_folder,
    find_columns,
    find_parquet,
    image_values,
    name_in,
    open_parquet,
    row_batches,
    row_name,
)
from pipeline.data.trees import open_place
from pipeline.errors import SourceError, StorageError
from pipeline.params import DataParams
from pipeline.report.galleries import SIDE, ShownImage

PICTURE_SIDE = 768  # pixels
MOST_PICTURE_BYTES = 60_000  # of one
MOST_PAGE_BYTES = 9_000_000  # of all
FEWEST_BYTES = 12_000  # less is worse than the thumbnail
MOST_READ = 4 << 30  # bytes of Parquet files that are searched for the images of a page


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


def original_pictures(
    data: DataParams, ids: Iterable[str], *, side: int, most_bytes: int
) -> dict[str, bytes]:
    """JPEGs of the originals of these images, whole, as `pictures.whole_picture` makes them."""
    cores, pictures = os.cpu_count() or 1, dict[str, bytes]()
    found = originals(data, ids)

    def picture(each: tuple[str, bytes]) -> bytes | str:
        form = {"side": side, "most_bytes": most_bytes, "max_pixels": data.max_pixels}
        return decode_pictures([each[1]], bits=data.bits or 16, **form)[0]

    with ThreadPoolExecutor(cores) as pool:
        while some := list(islice(found, 4 * cores)):  # few are in memory
            for (name, _), made in zip(some, pool.map(picture, some), strict=True):
                if isinstance(made, bytes):
                    pictures[name] = made
    return pictures


def originals(data: DataParams, ids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The id and the bytes of each of these images that the source still holds."""
    wanted = dict.fromkeys(ids)
    if data.path is None or not wanted:
        return
    if data.source == "parquet":
        yield from _from_parquet(data.path, ColumnNames(**data.columns), wanted)
        return
    try:
        tree, _ = open_place(data.path)
        names = [name for name in wanted if tree.inside("", name) == name]
        for name, (image, problem) in zip(names, tree.reads(names), strict=True):
            if problem is None:
                yield name, image
    except (SourceError, StorageError):
        return


def _from_parquet(
    path: str, names: ColumnNames, wanted: Collection[str]
) -> Iterator[tuple[str, bytes]]:
    """Rows by their ids, as ParquetSource has them, of the first files of MOST_READ bytes."""
    left, read = set(wanted), 0
    try:
        files, _ = find_parquet(path)
        root = common_folder(files)
        for file in files:
            with file.tree.opened(file.name) as (_, size):
                read += size
            if read > MOST_READ or not left:
                return
            with open_parquet(file) as opened:
                columns = find_columns(opened.schema_arrow, file, names)
            used = [columns[use] for use in ("id", "image") if use in columns]
            below, row = name_in(root, file), 0
            for batch in row_batches(file, used):
                ids = [row_name(below, row + place) for place in range(batch.num_rows)]
                if "id" in columns:
                    ids = list(map(str, batch.column(columns["id"]).to_pylist()))
                row += batch.num_rows
                images = image_values(batch.column(columns["image"]), file)
                for name, image in zip(ids, images, strict=True):
                    if name in left and image:
                        left.remove(name)
                        yield name, image
    except (SourceError, StorageError, OSError, ValueError):
        return
