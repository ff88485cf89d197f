"""The first pass over a source: decode every image once, by slices, and remember little of each.

What is stored of the images lies in the slices; a slice that is there whole is not read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.decoding import decode_images
from pipeline.data.images import StoredImage
from pipeline.data.preparation.duplicates import thumbnail
from pipeline.data.preparation.records import (
    BATCH,
    BATCH_BYTES,
    RECORD_SCHEMA,
    Records,
    add_bad,
    check_ids,
    check_row,
    digest_of,
    record,
)
from pipeline.data.preparation.slices import (
    IMAGES_PER_GROUP,
    Slices,
    open_slice,
    slice_rows,
    write_slice,
)
from pipeline.data.preparation.targets import Encoded, Targets
from pipeline.data.rows import SIZE
from pipeline.data.sources.rows import Row, Source, in_batches
from pipeline.data.storage import StoredFolder
from pipeline.errors import SourceError
from pipeline.mapping import MapItems, check_ended
from pipeline.params import DataParams
from pipeline.progress import progress

BAD_IMAGES_SHOWN = 3
UNREADABLE = (OSError, ValueError, KeyError, pa.ArrowException)


@dataclass(frozen=True)
class Ingested:
    """What the driver remembers of a slice: usable images by RECORD_SCHEMA, (id, reason) of the
    others, and how many are animated."""

    records: Any
    bad: list[tuple[str, str]]
    animated: int


def ingest(
    source: Source,
    place: Path | StoredFolder,
    data: DataParams,
    *,
    task: Targets,
    map_items: MapItems,
) -> tuple[Records, Slices]:
    """Decode all of `source` into slices in `place`.

    Raises SourceError where there are too many bad images, an id comes twice or a row's label or
    split makes no sense.
    """
    bad, parts, animated = list[tuple[str, str]](), list[Any](), 0
    rows, total = slice_rows(source), len(source)
    starts = range(0, total, rows)
    work = SliceIngest(place, data, task, len(source.classes))
    items = ((number, source.part(first, first + rows)) for number, first in enumerate(starts))
    with progress("prepare: decode", total) as advance:
        for ingested in map_items(work, items):
            add_bad(bad, ingested.bad)
            parts.append(ingested.records)
            animated += ingested.animated
            advance(len(ingested.records) + len(ingested.bad))
    counts = np.array([len(part) for part in parts], np.int64)
    _check_bad(bad, int(counts.sum()) + len(bad), data.max_bad_fraction)
    records, slices = Records.of(parts, bad, animated), Slices(place, counts)
    del parts
    pa.default_memory_pool().release_unused()  # what Arrow would hold for later, 90 bytes an image
    tables = (table for _, table in slices.every(["id"]))
    check_ids(records, (name for table in tables for name in table["id"].to_pylist()))
    return records, slices


def stored_schema(task: Targets) -> Any:
    """Of the prepared shards: what is kept of each image, and where all of it was fitted into the
    square, its own upright size."""
    own = SIZE if task.keeps_whole else ()
    return pa.schema([("id", pa.string()), ("image", pa.binary()), task.target, *own])


@dataclass(frozen=True)
class SliceIngest:
    """Makes a slice of the rows of a part; travels to other processes."""

    place: Path | StoredFolder
    data: DataParams
    task: Targets
    num_classes: int

    def __call__(self, item: tuple[int, Iterable[Row]]) -> Ingested:
        """Make the slice of this number, unless it is there."""
        number, rows = item
        try:
            return self._read(number)
        except UNREADABLE:  # not there, or damaged
            return self._write(number, rows)

    def _read(self, number: int) -> Ingested:
        columns = [*RECORD_SCHEMA.names, "id", "reason", "animated"]
        with open_slice(self.place, number) as file:
            table = file.read(columns, use_threads=False)
        usable = table.filter(pc.is_null(table["reason"]))
        others = table.slice(len(usable)).select(["id", "reason"]).to_pylist()
        bad = [(each["id"], each["reason"]) for each in others]
        known = usable.select(RECORD_SCHEMA.names).combine_chunks()
        return Ingested(known, bad, pc.sum(usable["animated"]).as_py())

    def _write(self, number: int, rows: Iterable[Row]) -> Ingested:
        bad, parts, animated = list[tuple[str, str]](), [RECORD_SCHEMA.empty_table()], 0

        def tables() -> Iterator[Any]:
            nonlocal animated
            for batch in in_batches(rows, BATCH, BATCH_BYTES, lambda row: len(row.image)):
                check_ended()
                made = self._ingested(batch)
                bad.extend(each for each in made if isinstance(each, tuple))
                usable = [each for each in made if isinstance(each, dict)]
                parts.append(pa.Table.from_pylist(usable, schema=RECORD_SCHEMA))
                animated += sum(each["animated"] for each in usable)
                yield pa.Table.from_pylist(usable, schema=self._schema)
            reasons = [{"id": name, "reason": reason} for name, reason in bad]
            yield pa.Table.from_pylist(reasons, schema=self._schema)

        write_slice(self.place, number, in_groups(tables(), IMAGES_PER_GROUP), self._schema)
        return Ingested(pa.concat_tables(parts).combine_chunks(), bad, animated)

    @cached_property
    def _schema(self) -> Any:
        """Of a slice: what is stored, what is remembered, and what either is found by."""
        own = {"width": pa.int32(), "height": pa.int32(), "thumbnail": pa.binary()}
        own |= {"animated": pa.bool_(), "reason": pa.string()}
        stored = stored_schema(self.task)
        more = [pa.field(name, kind) for name, kind in own.items() if name not in stored.names]
        return pa.schema([*stored, *RECORD_SCHEMA, *more])

    def _ingested(self, rows: Sequence[Row]) -> list[dict[str, Any] | tuple[str, str]]:
        """What is stored and remembered of rows; (id, reason) of unusable ones."""
        data, task = self.data, self.task
        for row in rows:
            check_row(row, self.num_classes)
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
        answers = iter(task.encode(labels, shown, data, self.num_classes))
        return [
            (row.id, image)
            if isinstance(image, str)
            else _stored_row(row, image, None if row.label is None else next(answers), task)
            for row, image in zip(rows, stored, strict=True)
        ]


def in_groups(tables: Iterable[Any], rows: int) -> Iterator[Any]:
    """The same rows in tables of so many, the last of what is left, if any."""
    waiting, count = list[Any](), 0
    for table in tables:
        waiting.append(table)
        count += len(table)
        while count >= rows:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, rows).combine_chunks()
            waiting, count = [whole.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(waiting).combine_chunks()


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
