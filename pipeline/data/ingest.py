"""The first pass over a source: decode every image once, and remember little of each.

The stored bytes go to a temporary Parquet file and the thumbnails to a flat file; only digests,
labels and splits (about 50 bytes a row) stay in memory, so a source may be far larger than it.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.duplicates import Digests, Ints, thumbnail, thumbnail_side
from pipeline.data.images import BadImageError, Pixels, StoredImage, decode_png, store
from pipeline.data.sources.rows import SPLITS, Row, Source
from pipeline.errors import SourceError
from pipeline.progress import progress

DIGEST_BYTES = 16
ROWS_PER_TASK = 16
ROWS_PER_GROUP = 1024
NO_SPLIT = -1
SPILL_SCHEMA = pa.schema([("id", pa.string()), ("image", pa.binary())])
BAD_IMAGES_NAMED = 3


@dataclass(frozen=True)
class Records:
    """What is remembered of the N usable images, in the order of the source.

    digests, contents, id_digests: (N, 16) uint8, of the stored pixels, of the source's own bytes
    and of the id; labels: (N,) int64, -1 where there is none; splits: (N,) int64, an index in
    SPLITS or NO_SPLIT; groups: (N,) int64, -1 for an image alone, else a row of group_digests:
    (G, 16) uint8, of the groups' names; thumbnails: (N, P) uint8, a memory map; spill: the Parquet
    file of (id, image); bad: (id, reason) of the others.
    """

    digests: Digests
    contents: Digests
    id_digests: Digests
    labels: Ints
    splits: Ints
    groups: Ints
    group_digests: Digests
    thumbnails: Pixels
    spill: Path
    bad: list[tuple[str, str]]
    animated: int

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class _Seen:
    """One decoded image on its way to the spill."""

    stored: StoredImage
    digest: bytes
    content: bytes
    thumbnail: bytes


def ingest(
    source: Source,
    scratch: Path,
    *,
    image_size: int,
    channels: int,
    max_pixels: int,
    bits: int = 16,
    max_bad_fraction: float,
    threads: int | None = None,
) -> Records:
    """Decode all of `source` into `scratch`, an existing folder.

    Raises SourceError where there are too many bad images, an id comes twice or a row's label or
    split makes no sense.
    """

    def seen(row: Row) -> _Seen | BadImageError:
        return _seen(
            row, image_size=image_size, channels=channels, max_pixels=max_pixels, bits=bits
        )

    kept = _Kept()
    with (
        progress("prepare: decode", len(source)) as advance,
        (scratch / "thumbnails.u8").open("wb") as thumbnails,
        pq.ParquetWriter(scratch / "spill.parquet", SPILL_SCHEMA, compression="NONE") as spill,
    ):
        for row, result in _in_order(source.rows(), seen, threads or os.cpu_count() or 1):
            _check_row(row, len(source.classes))
            if isinstance(result, BadImageError):
                kept.bad.append((row.id, str(result)))
            else:
                kept.add(row, result)
                thumbnails.write(result.thumbnail)
                if len(kept.held) == ROWS_PER_GROUP:
                    kept.flush(spill)
            advance()
        kept.flush(spill)
    _check_bad(kept.bad, len(kept.labels) + len(kept.bad), max_bad_fraction)
    records = kept.records(scratch, thumbnail_side(image_size) ** 2)
    _check_ids(records)
    return records


def spilled(records: Records) -> Iterator[tuple[str, bytes]]:
    """Yield (id, stored bytes) of every usable image, in the order of the records."""
    with pq.ParquetFile(records.spill) as file:
        for batch in file.iter_batches(ROWS_PER_GROUP):
            yield from zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)


def names_of(records: Records, rows: Ints) -> dict[int, str]:
    """The ids of some rows, ascending, by row; negative ones are left out."""
    found: dict[int, str] = {}
    first = 0
    with pq.ParquetFile(records.spill) as file:
        for batch in file.iter_batches(ROWS_PER_GROUP, columns=["id"]):
            low, high = np.searchsorted(rows, [first, first + batch.num_rows])
            found |= {int(r): batch.column(0)[int(r) - first].as_py() for r in rows[low:high]}
            first += batch.num_rows
    return found


def pixels_of(records: Records, rows: Ints) -> dict[int, Pixels]:
    """The stored pixels (S, S, C) uint8 of some rows, ascending, by row."""
    found: dict[int, Pixels] = {}
    with pq.ParquetFile(records.spill) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        starts = np.cumsum([0, *sizes])
        groups = np.searchsorted(starts, rows, side="right") - 1
        for group in np.unique(groups).tolist():
            images = file.read_row_group(group, columns=["image"]).column(0)
            for row in rows[groups == group].tolist():
                found[row] = decode_png(images[row - int(starts[group])].as_py())
    return found


class _Kept:
    """The records as they grow, and the rows that wait for the spill."""

    def __init__(self) -> None:
        self.digests, self.contents, self.id_digests = bytearray(), bytearray(), bytearray()
        self.labels: list[int] = []
        self.splits: list[int] = []
        self.groups: list[int] = []
        self.group_numbers: dict[str, int] = {}
        self.bad: list[tuple[str, str]] = []
        self.held: list[dict[str, Any]] = []
        self.animated = 0

    def add(self, row: Row, seen: _Seen) -> None:
        self.digests += seen.digest
        self.contents += seen.content
        self.id_digests += _text_digest(row.id)
        self.labels.append(-1 if row.label is None else row.label)
        self.splits.append(NO_SPLIT if row.split is None else SPLITS.index(row.split))
        numbers = self.group_numbers
        self.groups.append(-1 if row.group is None else numbers.setdefault(row.group, len(numbers)))
        self.held.append({"id": row.id, "image": seen.stored.data})
        self.animated += seen.stored.animated

    def flush(self, spill: Any) -> None:
        if self.held:
            spill.write_table(pa.Table.from_pylist(self.held, schema=SPILL_SCHEMA))
        self.held = []

    def records(self, scratch: Path, thumbnail_bytes: int) -> Records:
        shape = (len(self.labels), thumbnail_bytes)
        path = scratch / "thumbnails.u8"
        empty = not self.labels
        return Records(
            digests=_as_rows(self.digests),
            contents=_as_rows(self.contents),
            id_digests=_as_rows(self.id_digests),
            labels=np.array(self.labels, np.int64),
            splits=np.array(self.splits, np.int64),
            groups=np.array(self.groups, np.int64),
            group_digests=_as_rows(b"".join(map(_text_digest, self.group_numbers))),
            thumbnails=np.empty(shape, np.uint8)
            if empty
            else np.memmap(path, mode="r", shape=shape),
            spill=scratch / "spill.parquet",
            bad=self.bad,
            animated=self.animated,
        )


def _seen(
    row: Row, *, image_size: int, channels: int, max_pixels: int, bits: int
) -> _Seen | BadImageError:
    if row.problem is not None:
        return BadImageError(row.problem)
    try:
        stored = store(
            row.image, image_size=image_size, channels=channels, max_pixels=max_pixels, bits=bits
        )
    except BadImageError as error:
        return error
    pixels = stored.pixels.tobytes()
    content = row.image if row.content is None else row.content
    return _Seen(stored, _digest(pixels), _digest(content), thumbnail(stored.pixels).tobytes())


def _in_order(
    rows: Iterator[Row], work: Callable[[Row], _Seen | BadImageError], threads: int
) -> Iterator[tuple[Row, _Seen | BadImageError]]:
    """Yield each row with work(row), done by threads, in order, few in flight."""
    waiting: deque[tuple[list[Row], Future[list[_Seen | BadImageError]]]] = deque()
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


def _check_row(row: Row, num_classes: int) -> None:
    if row.split is not None and row.split not in SPLITS:
        raise SourceError(f"{row.id!r}: split {row.split!r}: must be one of {', '.join(SPLITS)}")
    if row.label is not None and not 0 <= row.label < num_classes:
        raise SourceError(f"{row.id!r}: label {row.label}: must be 0 to {num_classes - 1}, or null")
    if row.label is None and row.split in ("test", "validation"):
        raise SourceError(f"{row.id!r}: a {row.split} image needs a label; give it one or drop it")


def _check_bad(bad: list[tuple[str, str]], total: int, max_bad_fraction: float) -> None:
    if total == 0:
        raise SourceError("the source holds no images")
    if len(bad) > max_bad_fraction * total:
        named = ", ".join(f"{name!r} ({reason})" for name, reason in bad[:BAD_IMAGES_NAMED])
        raise SourceError(
            f"{len(bad)} of {total} images are unusable, more than data.max_bad_fraction = "
            f"{max_bad_fraction:g}: {named}{', …' if len(bad) > BAD_IMAGES_NAMED else ''}"
        )


def _check_ids(records: Records) -> None:
    """Raise SourceError where an id comes twice, be its images usable or not."""
    _check_bad_ids(records)
    keys = np.ascontiguousarray(records.id_digests).view("V16").reshape(-1)
    _, first = np.unique(keys, return_index=True)
    if len(first) == len(keys):
        return
    repeated = np.ones(len(keys), bool)
    repeated[first] = False
    row = int(np.flatnonzero(repeated)[0])
    name = next(name for place, (name, _) in enumerate(spilled(records)) if place == row)
    _refuse_id(name)


def _check_bad_ids(records: Records) -> None:
    seen = {row.tobytes() for row in records.id_digests} if records.bad else set()
    for name, _ in records.bad:
        if (digest := _text_digest(name)) in seen:
            _refuse_id(name)
        seen.add(digest)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


def _text_digest(name: str) -> bytes:
    return _digest(name.encode())


def _as_rows(digests: bytes | bytearray) -> Digests:
    return np.frombuffer(bytes(digests), np.uint8).reshape(-1, DIGEST_BYTES)


def _refuse_id(name: str) -> NoReturn:
    raise SourceError(f"{name!r}: this id comes twice; ids must be unique")
