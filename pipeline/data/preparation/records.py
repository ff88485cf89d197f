"""What is remembered of a source's images between looking at them and writing them.

Only digests, labels and splits (about 100 bytes an image) are in memory, so a source may be far
larger than it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow.parquet as pq

from pipeline.data.images import Pixels, decode_png
from pipeline.data.preparation.duplicates import Digests, Ints
from pipeline.data.sources.rows import SPLITS, Row
from pipeline.errors import SourceError

DIGEST_BYTES = 16
ROWS_PER_GROUP = 1024
NO_SPLIT = -1


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


class RecordsBuilder:
    """Records as they grow, an image at a time."""

    def __init__(self, num_classes: int) -> None:
        self.bad: list[tuple[str, str]] = []
        self.animated = 0
        self.num_classes = num_classes
        self._digests, self._contents, self._ids = bytearray(), bytearray(), bytearray()
        self._labels: list[int] = []
        self._splits: list[int] = []
        self._groups: list[int] = []
        self._group_numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._labels)

    def add(self, row: Row, digest: bytes, content: bytes) -> None:
        """Remember a usable image; digest: of its pixels, content: of what the source holds.

        Raises SourceError where its label or split makes no sense.
        """
        check_row(row, self.num_classes)
        self._digests += digest
        self._contents += content
        self._ids += text_digest(row.id)
        self._labels.append(-1 if row.label is None else row.label)
        self._splits.append(NO_SPLIT if row.split is None else SPLITS.index(row.split))
        numbers = self._group_numbers
        self._groups.append(
            -1 if row.group is None else numbers.setdefault(row.group, len(numbers))
        )

    def records(self, thumbnails: Pixels, spill: Path) -> Records:
        """What was remembered; raises SourceError where an id came twice."""
        found = Records(
            digests=_as_rows(self._digests),
            contents=_as_rows(self._contents),
            id_digests=_as_rows(self._ids),
            labels=np.array(self._labels, np.int64),
            splits=np.array(self._splits, np.int64),
            groups=np.array(self._groups, np.int64),
            group_digests=_as_rows(b"".join(map(text_digest, self._group_numbers))),
            thumbnails=thumbnails,
            spill=spill,
            bad=self.bad,
            animated=self.animated,
        )
        _check_ids(found)
        return found


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


def check_row(row: Row, num_classes: int) -> None:
    """Raise SourceError where a row's label or split makes no sense."""
    if row.split is not None and row.split not in SPLITS:
        raise SourceError(f"{row.id!r}: split {row.split!r}: must be one of {', '.join(SPLITS)}")
    if row.label is not None and not 0 <= row.label < num_classes:
        raise SourceError(f"{row.id!r}: label {row.label}: must be 0 to {num_classes - 1}, or null")
    if row.label is None and row.split in ("test", "validation"):
        raise SourceError(f"{row.id!r}: a {row.split} image needs a label; give it one or drop it")


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
    refuse_id(name)


def _check_bad_ids(records: Records) -> None:
    seen = {row.tobytes() for row in records.id_digests} if records.bad else set()
    for name, _ in records.bad:
        if (digest := text_digest(name)) in seen:
            refuse_id(name)
        seen.add(digest)


def digest_of(data: bytes) -> bytes:
    """16 bytes that name these."""
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


def text_digest(name: str) -> bytes:
    """`digest_of` text."""
    return digest_of(name.encode())


def _as_rows(digests: bytes | bytearray) -> Digests:
    return np.frombuffer(bytes(digests), np.uint8).reshape(-1, DIGEST_BYTES)


def refuse_id(name: str) -> NoReturn:
    """Raise SourceError: the id `name` comes twice."""
    raise SourceError(f"{name!r}: this id comes twice; ids must be unique")
