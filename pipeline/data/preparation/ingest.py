"""The first pass over a source: decode every image once, and remember little of each.

The stored bytes go to a temporary Parquet file and the thumbnails to a flat file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.decoding import decode_images
from pipeline.data.images import StoredImage
from pipeline.data.preparation.duplicates import thumbnail, thumbnail_side
from pipeline.data.preparation.records import (
    RECORD_SCHEMA,
    Records,
    add_bad,
    check_ids,
    check_row,
    digest_of,
    in_order,
    record,
    spilled_ids,
)
from pipeline.data.preparation.targets import Encoded, Targets
from pipeline.data.rows import SIZE
from pipeline.data.sources.rows import Row, Source
from pipeline.errors import SourceError
from pipeline.params import DataParams
from pipeline.progress import progress

BAD_IMAGES_SHOWN = 3


def ingest(
    source: Source,
    scratch: Path,
    data: DataParams,
    *,
    task: Targets,
    threads: int | None = None,
) -> Records:
    """Decode all of `source` into `scratch`, an existing folder.

    Raises SourceError where there are too many bad images, an id comes twice or a row's label or
    split makes no sense.
    """
    thumbnail_file, spill_file = scratch / "thumbnails.u8", scratch / "spill.parquet"
    bad, parts, animated = list[tuple[str, str]](), list[Any](), 0
    ingested, schema = partial(_ingested, data, len(source.classes), task), stored_schema(task)
    with (
        progress("prepare: decode", len(source)) as advance,
        thumbnail_file.open("wb") as thumbnails,
        pq.ParquetWriter(spill_file, schema, compression="NONE") as spill,
    ):
        for group in in_order(
            ingested, source.rows(), threads or os.cpu_count() or 1, lambda row: len(row.image)
        ):
            usable = [each for each in group if isinstance(each, dict)]
            add_bad(bad, [each for each in group if isinstance(each, tuple)])
            spill.write_table(pa.Table.from_pylist(usable, schema=schema))
            parts.append(pa.Table.from_pylist(usable, schema=RECORD_SCHEMA))
            thumbnails.writelines(each["thumbnail"] for each in usable)
            animated += sum(each["animated"] for each in usable)
            advance(len(group))
    count = sum(map(len, parts))
    _check_bad(bad, count + len(bad), data.max_bad_fraction)
    shape = (count, thumbnail_side(data.image_size) ** 2)
    small = np.memmap(thumbnail_file, mode="r", shape=shape) if count else None  # never empty
    records = Records.of(parts, bad, thumbnails=small, spill=spill_file, animated=animated)
    check_ids(records, (name for _, ids in spilled_ids(records) for name in ids.to_pylist()))
    return records


def stored_schema(task: Targets) -> Any:
    """Of the prepared shards: what is kept of each image, and where all of it was fitted into the
    square, its own upright size."""
    own = SIZE if task.keeps_whole else ()
    return pa.schema([("id", pa.string()), ("image", pa.binary()), task.target, *own])


def _ingested(
    data: DataParams, num_classes: int, task: Targets, rows: Sequence[Row]
) -> list[dict[str, Any] | tuple[str, str]]:
    """What is kept of rows, by RECORD_SCHEMA and stored_schema; (id, reason) of unusable ones."""
    for row in rows:
        check_row(row, num_classes)
    images = decode_images(
        [row.image for row in rows if row.problem is None],
        image_size=data.image_size,
        channels=data.channels,
        max_pixels=data.max_pixels,
        bits=data.bits or 16,
        whole=task.keeps_whole,
        encode=True,
    )
    decoded = iter(images)
    stored = [next(decoded) if row.problem is None else row.problem for row in rows]
    pairs = [
        (row.label, image)
        for row, image in zip(rows, stored, strict=True)
        if row.label is not None and isinstance(image, StoredImage)
    ]
    labels, shown = [label for label, _ in pairs], [image for _, image in pairs]
    answers = iter(task.encode(labels, shown, data, num_classes))
    return [
        (row.id, image)
        if isinstance(image, str)
        else _stored_row(row, image, None if row.label is None else next(answers), task)
        for row, image in zip(rows, stored, strict=True)
    ]


def _stored_row(
    row: Row, stored: StoredImage, answer: Encoded | str | None, task: Targets
) -> dict[str, Any] | tuple[str, str]:
    if isinstance(answer, str):
        return row.id, answer
    content = digest_of(row.image if row.content is None else row.content)
    digest = digest_of(stored.pixels.tobytes())
    return record(row, digest, content, answer, image_classes=task.image_classes) | {
        "id": row.id,
        "image": stored.data,
        task.target.name: None if answer is None else answer.value,
        "width": stored.width,
        "height": stored.height,
        "animated": stored.animated,
        "thumbnail": thumbnail(stored.pixels).tobytes(),
    }


def _check_bad(bad: list[tuple[str, str]], total: int, max_bad_fraction: float) -> None:
    if total == 0:
        raise SourceError("the source holds no images")
    if len(bad) > max_bad_fraction * total:
        shown = ", ".join(f"{name!r} ({reason})" for name, reason in bad[:BAD_IMAGES_SHOWN])
        raise SourceError(
            f"{len(bad)} of {total} images are unusable, more than data.max_bad_fraction = "
            f"{max_bad_fraction:g}: {shown}{', …' if len(bad) > BAD_IMAGES_SHOWN else ''}"
        )
