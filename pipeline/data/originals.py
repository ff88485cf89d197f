"""The images as the user has them, found by id again, for pages that show them larger.

Sources may have moved since `prepare`: what is not found, or is no image any more, is left out.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path, PurePosixPath

from pipeline.data.decoding import decode_pictures
from pipeline.data.preparation.listing import folder_of
from pipeline.data.sources import ColumnNames
from pipeline.data.sources.files import read_image
from pipeline.data.sources.parquet_files import (
    find_columns,
    find_parquet,
    image_values,
    open_parquet,
    row_batches,
    row_name,
)
from pipeline.errors import SourceError
from pipeline.params import DataParams

MOST_READ = 4 << 30  # bytes of Parquet files that are searched for the images of a page


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
    root = folder_of(Path(data.path))
    for name in wanted:
        below = PurePosixPath(name)
        if root is None or below.is_absolute() or ".." in below.parts:
            continue
        image, problem = read_image(root / below)
        if problem is None:
            yield name, image


def _from_parquet(
    path: str, names: ColumnNames, wanted: Collection[str]
) -> Iterator[tuple[str, bytes]]:
    """Rows by their ids, as ParquetSource has them, of the first files of MOST_READ bytes."""
    left, read = set(wanted), 0
    try:
        files, _ = find_parquet(path)
        root = Path(os.path.commonpath([file.parent for file in files]))
        for file in files:
            read += file.stat().st_size
            if read > MOST_READ or not left:
                return
            with open_parquet(file) as opened:
                columns = find_columns(opened.schema_arrow, file, names)
            used = [columns[use] for use in ("id", "image") if use in columns]
            below, row = file.relative_to(root).as_posix(), 0
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
    except (SourceError, OSError, ValueError):
        return
