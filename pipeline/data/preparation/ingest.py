"""The first pass over a source: decode every image once, and remember little of each.

The stored bytes go to a temporary Parquet file and the thumbnails to a flat file.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.images import BadImageError, StoredImage, store
from pipeline.data.preparation.duplicates import thumbnail, thumbnail_side
from pipeline.data.preparation.records import (
    ROWS_PER_GROUP,
    Records,
    RecordsBuilder,
    check_row,
    digest_of,
)
from pipeline.data.sources.rows import Row, Source
from pipeline.errors import SourceError
from pipeline.params import DataParams
from pipeline.progress import progress

ROWS_PER_TASK = 16
SPILL_SCHEMA = pa.schema([("id", pa.string()), ("image", pa.binary())])
BAD_IMAGES_NAMED = 3


@dataclass(frozen=True)
class _Decoded:
    """One decoded image on its way to the spill."""

    stored: StoredImage
    digest: bytes
    content: bytes
    thumbnail: bytes


def ingest(
    source: Source,
    scratch: Path,
    data: DataParams,
    *,
    threads: int | None = None,
) -> Records:
    """Decode all of `source` into `scratch`, an existing folder.

    Raises SourceError where there are too many bad images, an id comes twice or a row's label or
    split makes no sense.
    """

    thumbnail_file, spill_file = scratch / "thumbnails.u8", scratch / "spill.parquet"
    builder, waiting = RecordsBuilder(len(source.classes)), list[dict[str, Any]]()
    with (
        progress("prepare: decode", len(source)) as advance,
        thumbnail_file.open("wb") as thumbnails,
        pq.ParquetWriter(spill_file, SPILL_SCHEMA, compression="NONE") as spill,
    ):
        decode = partial(_decoded, data)
        for row, result in _in_order(source.rows(), decode, threads or os.cpu_count() or 1):
            if isinstance(result, BadImageError):
                check_row(row, len(source.classes))
                builder.bad.append((row.id, str(result)))
            else:
                builder.add(row, result.digest, result.content)
                builder.animated += result.stored.animated
                thumbnails.write(result.thumbnail)
                waiting.append({"id": row.id, "image": result.stored.data})
                if len(waiting) == ROWS_PER_GROUP:
                    _write(spill, waiting)
            advance()
        _write(spill, waiting)
    _check_bad(builder.bad, len(builder) + len(builder.bad), data.max_bad_fraction)
    shape = (len(builder), thumbnail_side(data.image_size) ** 2)
    if not len(builder):  # a memory map can't be empty
        return builder.records(np.empty(shape, np.uint8), spill_file)
    return builder.records(np.memmap(thumbnail_file, mode="r", shape=shape), spill_file)


def _write(spill: Any, waiting: list[dict[str, Any]]) -> None:
    """Write the rows that wait, and forget them."""
    if waiting:
        spill.write_table(pa.Table.from_pylist(waiting, schema=SPILL_SCHEMA))
        waiting.clear()


def _decoded(data: DataParams, row: Row) -> _Decoded | BadImageError:
    if row.problem is not None:
        return BadImageError(row.problem)
    try:
        stored = store(
            row.image,
            image_size=data.image_size,
            channels=data.channels,
            max_pixels=data.max_pixels,
            bits=data.bits or 16,
        )
    except BadImageError as error:
        return error
    pixels = stored.pixels.tobytes()
    content = row.image if row.content is None else row.content
    return _Decoded(
        stored, digest_of(pixels), digest_of(content), thumbnail(stored.pixels).tobytes()
    )


def _in_order(
    rows: Iterator[Row], work: Callable[[Row], _Decoded | BadImageError], threads: int
) -> Iterator[tuple[Row, _Decoded | BadImageError]]:
    """Yield each row with work(row), done by threads, in order, few in flight."""
    waiting: deque[tuple[list[Row], Future[list[_Decoded | BadImageError]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            while chunk := list(islice(rows, ROWS_PER_TASK)):
                waiting.append(
                    (chunk, pool.submit(lambda part: [work(row) for row in part], chunk))
                )
                if len(waiting) > 2 * threads:
                    done, future = waiting.popleft()
                    yield from zip(done, future.result(), strict=True)
            for done, future in waiting:
                yield from zip(done, future.result(), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)


def _check_bad(bad: list[tuple[str, str]], total: int, max_bad_fraction: float) -> None:
    if total == 0:
        raise SourceError("the source holds no images")
    if len(bad) > max_bad_fraction * total:
        named = ", ".join(f"{name!r} ({reason})" for name, reason in bad[:BAD_IMAGES_NAMED])
        raise SourceError(
            f"{len(bad)} of {total} images are unusable, more than data.max_bad_fraction = "
            f"{max_bad_fraction:g}: {named}{', …' if len(bad) > BAD_IMAGES_NAMED else ''}"
        )
