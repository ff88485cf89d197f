"""What is remembered of a source's images between looking at them and writing them.

Only digests, labels and splits (about 100 bytes an image) are in memory, so a source may be far
larger than it.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.images import Pixels, decode_png
from pipeline.data.preparation.duplicates import Digests, Ints
from pipeline.data.preparation.targets import Encoded
from pipeline.data.sources.rows import SPLITS, Row, in_batches
from pipeline.errors import SourceError

Item = TypeVar("Item")
Result = TypeVar("Result")

DIGEST_BYTES = 16
ROWS_PER_GROUP = 256
BATCH, BATCH_BYTES = 32, 16 << 20  # items that a thread works on at once, their bytes; as many wait
WAITING_BYTES = 1 << 30  # of all that wait, or are worked on
MOST_BAD = 3_000_000  # unusable images, whose names are in memory
NO_SPLIT = -1
RECORD_SCHEMA = pa.schema(
    [
        ("id_digest", pa.binary(DIGEST_BYTES)),
        ("digest", pa.binary(DIGEST_BYTES)),
        ("content", pa.binary(DIGEST_BYTES)),
        ("stratum", pa.int64()),
        ("key", pa.int64()),
        ("classes", pa.list_(pa.int32())),
        ("split", pa.int64()),
        ("group", pa.binary(DIGEST_BYTES)),
    ]
)


@dataclass(frozen=True)
class Records:
    """What is remembered of the N usable images, in the order of the source.

    digests, contents, id_digests: (N, 16) uint8, of the stored pixels, of the source's own bytes
    and of the id; strata: (N,) int64, the class, or 0 where images have no one class; keys: (N,)
    int64, the same for the same answer; both -1 where there is no answer; classes: Arrow lists of
    the classes that each image shows; splits: (N,) int64, an index in SPLITS or NO_SPLIT; groups:
    (N,) int64, -1 for an image alone, else a row of group_digests: (G, 16) uint8, of the groups'
    names; thumbnails: (N, P) uint8, a memory map; spill: the Parquet file of what is stored; bad:
    (id, reason) of the others.
    """

    digests: Digests
    contents: Digests
    id_digests: Digests
    strata: Ints
    keys: Ints
    classes: Any
    splits: Ints
    groups: Ints
    group_digests: Digests
    thumbnails: Pixels
    spill: Path
    bad: list[tuple[str, str]]
    animated: int

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def of(
        cls,
        parts: Sequence[Any],
        bad: list[tuple[str, str]],
        *,
        thumbnails: Pixels | None = None,
        spill: Path = Path(),
        animated: int = 0,
    ) -> Records:
        """From tables of RECORD_SCHEMA, one after the other."""
        table = pa.concat_tables([RECORD_SCHEMA.empty_table(), *parts]).combine_chunks()
        groups = table["group"].combine_chunks().dictionary_encode()
        return cls(
            digests=_digest_rows(table["digest"].to_pylist()),
            contents=_digest_rows(table["content"].to_pylist()),
            id_digests=_digest_rows(table["id_digest"].to_pylist()),
            strata=table["stratum"].to_numpy(),
            keys=table["key"].to_numpy(),
            classes=table["classes"].combine_chunks(),
            splits=table["split"].to_numpy(),
            groups=groups.indices.fill_null(-1).to_numpy().astype(np.int64),
            group_digests=_digest_rows(groups.dictionary.to_pylist()),
            thumbnails=np.empty((len(table), 0), np.uint8) if thumbnails is None else thumbnails,
            spill=spill,
            bad=bad,
            animated=animated,
        )


def record(
    row: Row, digest: bytes, content: bytes, answer: Encoded | str | None, *, image_classes: bool
) -> dict[str, Any]:
    """A usable image as a row of RECORD_SCHEMA; digest: of its pixels, content: of its source;
    image_classes: whether an image has one class; a text for an answer: none that can be used."""
    known = None if isinstance(answer, str) else answer
    classes = () if known is None else known.classes
    return {
        "id_digest": text_digest(row.id),
        "digest": digest,
        "content": content,
        "stratum": -1 if known is None else classes[0] if image_classes else 0,
        "key": -1 if known is None else known.key,
        "classes": classes,
        "split": NO_SPLIT if row.split is None else SPLITS.index(row.split),
        "group": None if row.group is None else text_digest(row.group),
    }


def in_order(
    work: Callable[[list[Item]], list[Result]],
    items: Iterable[Item],
    threads: int,
    size: Callable[[Item], int],
) -> Iterator[list[Result]]:
    """Yield the results of work(items) by ROWS_PER_GROUP, in order; done by threads, few wait.

    size: the bytes of an item.
    """
    waiting = deque[tuple[int, Future[list[Result]]]]()

    def results() -> Iterator[Result]:
        held = 0
        for batch in in_batches(items, BATCH, BATCH_BYTES, size):
            taken = sum(map(size, batch))
            waiting.append((taken, pool.submit(work, batch)))
            held += taken
            while len(waiting) > 2 * threads or held > WAITING_BYTES:
                taken, done = waiting.popleft()
                yield from done.result()
                held -= taken
        while waiting:
            yield from waiting.popleft()[1].result()

    with ThreadPoolExecutor(threads) as pool:
        try:
            ordered = results()
            while group := list(islice(ordered, ROWS_PER_GROUP)):
                yield group
        finally:
            pool.shutdown(cancel_futures=True)


def spilled(records: Records, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield what is stored of every usable image, in the order of the records."""
    with pq.ParquetFile(records.spill) as file:
        for batch in file.iter_batches(ROWS_PER_GROUP, columns=columns):
            yield from batch.to_pylist()


def spilled_ids(records: Records) -> Iterator[tuple[int, Any]]:
    """Yield the ids of the usable images as Arrow arrays, each with its first row."""
    first = 0
    with pq.ParquetFile(records.spill) as file:
        for batch in file.iter_batches(ROWS_PER_GROUP, columns=["id"]):
            yield first, batch.column(0)
            first += batch.num_rows


def names_of(records: Records, rows: Ints) -> dict[int, str]:
    """The ids of some rows, ascending, by row; negative ones are left out."""
    names: dict[int, str] = {}
    for first, ids in spilled_ids(records):
        low, high = np.searchsorted(rows, [first, first + len(ids)])
        names |= {row: ids[row - first].as_py() for row in rows[low:high].tolist()}
    return names


def pixels_of(records: Records, rows: Ints) -> dict[int, Pixels]:
    """The stored pixels (S, S, C) uint8 of some rows, ascending, by row."""
    pixels: dict[int, Pixels] = {}
    with pq.ParquetFile(records.spill) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        starts = np.cumsum([0, *sizes])
        groups = np.searchsorted(starts, rows, side="right") - 1
        for group in np.unique(groups).tolist():
            images = file.read_row_group(group, columns=["image"]).column(0)
            for row in rows[groups == group].tolist():
                pixels[row] = decode_png(images[row - int(starts[group])].as_py())
    return pixels


def add_bad(bad: list[tuple[str, str]], more: Sequence[tuple[str, str]]) -> None:
    """Note the (id, reason) of unusable images; raises SourceError for more than MOST_BAD."""
    bad += more
    if len(bad) > MOST_BAD:
        raise SourceError(f"over {MOST_BAD:,} unusable images, as {bad[0][0]!r}: {bad[0][1]}")


def check_row(row: Row, num_classes: int) -> None:
    """Raise SourceError where a row's label or split makes no sense."""
    if row.split is not None and row.split not in SPLITS:
        raise SourceError(f"{row.id!r}: split {row.split!r}: must be one of {', '.join(SPLITS)}")
    if isinstance(row.label, int) and not 0 <= row.label < num_classes:
        raise SourceError(f"{row.id!r}: label {row.label}: must be 0 to {num_classes - 1}, or null")
    if row.label is None and row.split in ("test", "validation"):
        raise SourceError(f"{row.id!r}: a {row.split} image needs a label; give it one or drop it")


def check_ids(records: Records, ids: Iterable[str]) -> None:
    """Raise SourceError where an id comes twice; ids: of the usable images, read only then."""
    bad = [name for name, _ in records.bad]
    digests = np.concatenate([records.id_digests, _digest_rows(map(text_digest, bad))])
    _, first = np.unique(np.ascontiguousarray(digests).view("V16"), return_index=True)
    if len(first) < len(digests):
        row = int(np.setdiff1d(np.arange(len(digests)), first)[0])
        digest = digests[row].tobytes()
        name = next(name for name in chain(ids, bad) if text_digest(name) == digest)
        raise SourceError(f"{name!r}: this id comes twice; ids must be unique")


def digest_of(data: bytes) -> bytes:
    """16 bytes that name these."""
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


def text_digest(name: str) -> bytes:
    """`digest_of` text."""
    return digest_of(name.encode())


def _digest_rows(digests: Iterable[bytes]) -> Digests:
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)
