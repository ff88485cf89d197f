"""What a source remembers of each image, in Arrow's memory: its names and some 25 bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.sources.rows import SPLITS, MaskFile, Row
from pipeline.data.trees.local import path_text
from pipeline.data.trees.names import packed, unpacked
from pipeline.data.trees.tree import Tree

AT_ONCE = 1 << 14  # entries that are texts of Python at a time
SCHEMA = pa.schema(
    [
        ("name", pa.binary()),
        ("label", pa.int32()),
        ("mask", pa.binary()),
        ("split", pa.int8()),
        ("group", pa.binary()),
        ("problem", pa.binary()),
    ]
)
TEXTS = ("name", "mask", "group", "problem")


class Entry(NamedTuple):
    """An image: the name of its file, or its id where a problem says why there is none; the number
    of its class, or the name of its mask; its split and its group."""

    name: str
    label: int | None = None
    mask: str | None = None
    split: str | None = None
    group: str | None = None
    problem: str | None = None


class Entries:
    """Entries one after the other."""

    def __init__(self, table: Any) -> None:
        self._table = table

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Entries:
        """All of them, of which few are objects of Python at a time."""
        entries, tables = iter(entries), [SCHEMA.empty_table()]
        while some := list(islice(entries, AT_ONCE)):
            columns = dict(zip(Entry._fields, zip(*some, strict=True), strict=True))
            for text in TEXTS:
                columns[text] = tuple(_coded(columns[text]))
            columns["split"] = tuple(s and SPLITS.index(s) for s in columns["split"])
            arrays = [pa.array(columns[each.name], each.type) for each in SCHEMA]
            tables.append(pa.table(arrays, schema=SCHEMA))
        return cls(pa.concat_tables(tables))

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[Entry]:
        for batch in self._table.to_batches(AT_ONCE):
            columns = batch.to_pydict()
            for text in TEXTS:
                columns[text] = [None if data is None else unpacked(data) for data in columns[text]]
            columns["split"] = [None if s is None else SPLITS[s] for s in columns["split"]]
            yield from map(Entry, *columns.values())

    @classmethod
    def joined(cls, parts: Sequence[Entries]) -> Entries:
        """Those of all parts, one after the other."""
        return cls(pa.concat_tables([part._table for part in parts]))

    def labelled(self, numbers: Sequence[int]) -> Entries:
        """The same, each with the number that is at the place of its label."""
        labels = pc.take(pa.array(numbers, pa.int32()), self._table["label"])
        return Entries(self._table.set_column(SCHEMA.get_field_index("label"), "label", labels))

    def names(self) -> Iterator[tuple[str, int]]:
        """The name of each, and its place."""
        return ((entry.name, place) for place, entry in enumerate(self))

    def name(self, place: int) -> str:
        """That of one."""
        return unpacked(self._table["name"][place].as_py())

    def masks(self) -> Iterator[tuple[str, int]]:
        """The mask of each that has one, and its place."""
        for place, entry in enumerate(self):
            if entry.mask is not None:
                yield entry.mask, place

    def mask(self, place: int) -> str | None:
        """That of one."""
        data = self._table["mask"][place].as_py()
        return None if data is None else unpacked(data)

    def part(self, first: int, stop: int) -> Entries:
        """Those from the first up to the one at `stop`."""
        return Entries(self._table.slice(first, stop - first))

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        """Of a part only its own entries travel."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, SCHEMA) as stream:
            stream.write_table(self._table)
        return _from_stream, (sink.getvalue().to_pybytes(),)


@dataclass(frozen=True)
class Part:
    """The rows of entries, their files below `tree`; values, others: of masks, as MaskFile has
    them."""

    tree: Tree
    entries: Entries
    values: tuple[tuple[int, int], ...] = ()
    others: int | None = None

    def __iter__(self) -> Iterator[Row]:
        files = self.tree.reads(file for entry in self.entries for file in _files_of(entry))
        for entry in self.entries:
            image, problem = b"", entry.problem
            label: Any = entry.label
            if problem is None:
                image, problem = next(files)
            if entry.mask is not None:
                mask, wrong = next(files)
                problem = problem or (wrong and f"mask: {wrong}")
                label = MaskFile(mask, self.values, self.others)
            yield Row(path_text(entry.name), image, label, entry.split, problem, entry.group)


def _files_of(entry: Entry) -> list[str]:
    """What is read of an image, in order."""
    image = [] if entry.problem else [entry.name]
    return image if entry.mask is None else [*image, entry.mask]


def _coded(texts: Iterable[str | None]) -> Iterator[bytes | None]:
    return (None if text is None else packed(text) for text in texts)


def _from_stream(data: bytes) -> Entries:
    return Entries(pa.ipc.open_stream(data).read_all())
