"""The images as the user has them, found by id again, for pages that show them larger.

Sources may have moved since `prepare`: what is not found, or is no image any more, is left out.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath

from pipeline.data.decoding import decode_pictures
from pipeline.data.preparation.listing import folder_of
from pipeline.data.preparation.records import in_order
from pipeline.data.sources import ColumnNames
from pipeline.data.sources.files import read_image
from pipeline.data.sources.parquet_files import (
    find_columns,
    find_parquet,
    image_values,
    open_parquet,
    row_batches,
)
from pipeline.errors import SourceError
from pipeline.params import DataParams

MOST_READ = 8 << 30  # bytes of the row groups that hold the images of a page


def original_pictures(
    data: DataParams, ids: Iterable[str], *, side: int, most_bytes: int
) -> dict[str, bytes]:
    """JPEGs of the originals of these images, whole, as `pictures.whole_picture` makes them."""

    def pictures(found: list[tuple[str, bytes]]) -> list[tuple[str, bytes | str]]:
        made = decode_pictures(
            [image for _, image in found],
            side=side,
            most_bytes=most_bytes,
            max_pixels=data.max_pixels,
            bits=data.bits or 16,
        )
        return [(name, picture) for (name, _), picture in zip(found, made, strict=True)]

    groups = in_order(pictures, originals(data, ids), os.cpu_count() or 1)
    made = (each for group in groups for each in group)
    return {name: picture for name, picture in made if isinstance(picture, bytes)}


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
    """Rows by id; of the images only the row groups that hold one of them are read."""
    try:
        files, _ = find_parquet(path)
        root, left = Path(os.path.commonpath([file.parent for file in files])), MOST_READ
        for file in files:
            with open_parquet(file) as opened:
                schema, metadata = opened.schema_arrow, opened.metadata
            columns, row = find_columns(schema, file, names), 0
            below = file.relative_to(root).as_posix()
            for number in range(metadata.num_row_groups):
                group, first = metadata.row_group(number), row
                row += group.num_rows
                made_up = (f"{below}:{place}" for place in range(first, row))
                ids = list(_ids(file, columns["id"], number) if "id" in columns else made_up)
                if not any(name in wanted for name in ids):
                    continue
                left -= group.total_byte_size
                if left < 0:
                    return
                images = (
                    image
                    for batch in row_batches(file, [columns["image"]], [number])
                    for image in image_values(batch.column(0), file)
                )
                pairs = zip(ids, images, strict=True)
                yield from ((name, image) for name, image in pairs if image and name in wanted)
    except (SourceError, OSError, ValueError):
        return


def _ids(file: Path, column: str, group: int) -> Iterator[str]:
    for batch in row_batches(file, [column], [group]):
        yield from map(str, batch.column(0).to_pylist())
