"""What is remembered of a source's images between looking at them and writing them.

Only digests, labels and splits (75 bytes an image, more where it shows several classes) are in
memory, so a source may be far larger than it.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.data.preparation.duplicates import Digests, Ints, digest_keys
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
EMPTY = np.empty(0, np.uint8)
RECORD_SCHEMA = pa.schema(
    [
        ("id_digest", pa.binary(DIGEST_BYTES)),
        ("digest", pa.binary(DIGEST_BYTES)),
        ("content", pa.binary(DIGEST_BYTES)),
        ("stratum", pa.int32()),
        ("key", pa.int64()),
        ("classes", pa.list_(pa.int32())),
        ("split", pa.int8()),
        ("group", pa.binary(DIGEST_BYTES)),
    ]
)


@dataclass(frozen=True)
class Records:
    """What is remembered of the N usable images, in the order of the source.

    digests, contents, id_digests: (N, 16) uint8, of the stored pixels, of the source's own bytes
    and of the id; strata: (N,) int32, the class, or 0 where images have no one class; keys: (N,)
    int64, the same for the same answer; both -1 where there is no answer; classes: Arrow lists of
    the classes that each image shows; splits: (N,) int8, an index in SPLITS or NO_SPLIT; groups:
    (N,) int32, -1 for an image alone, else a row of group_digests: (G, 16) uint8, of the groups'
    names; bad: (id, reason) of the others.
    """

    digests: Digests
    contents: Digests
    id_digests: Digests
    strata: NDArray[np.int32]
    keys: Ints
    classes: Any
    splits: NDArray[np.int8]
    groups: NDArray[np.int32]
    group_digests: Digests
    bad: list[tuple[str, str]]
    animated: int

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def of(
        cls,
        parts: Sequence[Any],
        bad: list[tuple[str, str]],
        animated: int = 0,
    ) -> Records:
        """From tables of RECORD_SCHEMA, one after the other."""
        table = pa.concat_tables([RECORD_SCHEMA.empty_table(), *parts])
        groups = table["group"].combine_chunks().dictionary_encode()
        return cls(
            digests=_digests_in(table["digest"]),
            contents=_digests_in(table["content"]),
            id_digests=_digests_in(table["id_digest"]),
            strata=table["stratum"].to_numpy(),
            keys=table["key"].to_numpy(),
            classes=table["classes"].combine_chunks(),
            splits=table["split"].to_numpy(),
            groups=groups.indices.fill_null(-1).to_numpy(),
            group_digests=_digests_in(groups.dictionary),
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
    others = np.frombuffer(b"".join(map(text_digest, bad)), np.uint8).reshape(-1, DIGEST_BYTES)
    digests = np.concatenate([records.id_digests, others])
    halves = np.sort(digests.view("<u8")[:, 0])  # many times faster than to sort whole digests
    if not (halves[1:] == halves[:-1]).any():
        return
    keys = digest_keys(digests)
    _, first = np.unique(keys, return_index=True)
    if len(first) < len(keys):
        row = int(np.setdiff1d(np.arange(len(keys)), first)[0])
        digest = keys[row].tobytes()
        name = next(name for name in chain(ids, bad) if text_digest(name) == digest)
        raise SourceError(f"{name!r}: this id comes twice; ids must be unique")


def rows_of(records: Records, names: Iterable[str]) -> dict[str, int]:
    """The row of each of these ids, in the order of the records; unknown ones are left out."""
    digests = {text_digest(name): name for name in names}
    known = np.array(sorted(digests), f"V{DIGEST_BYTES}")
    keys = digest_keys(records.id_digests)
    if not len(known):
        return {}
    places = np.searchsorted(known, keys).clip(max=len(known) - 1)
    rows = np.flatnonzero(known[places] == keys)
    return {digests[keys[row].tobytes()]: row for row in rows.tolist()}


def digest_of(data: bytes) -> bytes:
    """16 bytes that name these."""
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


def text_digest(name: str) -> bytes:
    """`digest_of` text."""
    return digest_of(name.encode())


def _digests_in(column: Any) -> Digests:
    """Those of a column without nulls, (N, 16)."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    flat = [
        np.frombuffer(chunk.buffers()[1], np.uint8) if len(chunk) else EMPTY for chunk in chunks
    ]
    rows = [
        each.reshape(-1, DIGEST_BYTES)[chunk.offset : chunk.offset + len(chunk)]
        for each, chunk in zip(flat, chunks, strict=True)
    ]
    return np.concatenate([EMPTY.reshape(-1, DIGEST_BYTES), *rows])
