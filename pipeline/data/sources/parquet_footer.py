"""The footer of a Parquet file, before Arrow reads it: what it would take, and where columns are.

Arrow trusts it: a megabyte may describe structures of gigabytes, a schema that lies deep in itself
ends the process, and so does pyarrow's view of a column whose figures contradict each other. It is
in Thrift's compact encoding.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.files import open_regular

LARGEST_FOOTER = 40 << 20
MOST_IN_FOOTER = 1_000_000_000  # bytes that it takes in memory, about
MOST_SCHEMA = 20_000  # of a footer's elements of the schema, which may lie in each other
NUMBER, LIST, SET, STRUCTURE = (4, 5, 6), 9, 10, 12  # kinds of values
SCHEMA, ROW_GROUPS, COLUMNS, COLUMN = 2, 4, 1, 3  # fields: of the footer, a row group, a column
LARGEST_NUMBER = (1 << 63) - 1
CHUNK = (1, 5, 9, 11)  # fields of a column in a row group, as Chunk names them
MAGIC = b"PAR1"


class Thrift:
    """Reads structures: whole numbers and structures by field, of a list its length.

    Raises ValueError, and IndexError behind the end of the data, also where more than `most` bytes
    of memory would be taken by what is read. Of what lies deep nothing is kept.
    """

    def __init__(self, data: bytes, most: int) -> None:
        self.data, self.at, self.left = data, 0, most

    def structure(self, depth: int = 0) -> dict[int, Any]:
        """The structure here, and those in it."""
        self._spend(1000 if depth < 3 else 100)
        if depth > 16:
            raise ValueError("nested too deeply")
        data, fields, number = self.data, dict[int, Any](), 0
        while byte := data[self.at]:
            self.at += 1
            kind = byte & 15
            number = number + (byte >> 4) if byte >> 4 else self._number()
            if 4 <= kind <= 6 and depth > 1:
                while data[self.at] > 127:
                    self.at += 1
                self.at += 1
            elif kind > 2:
                fields[number] = self.value(kind, depth)
        self.at += 1
        return fields

    def value(self, kind: int, depth: int) -> Any:
        if kind in NUMBER:
            return self._number()
        if kind == 8:
            return self._skip(self._varint())
        if kind == STRUCTURE:
            return self.structure(depth + 1)
        if kind in (LIST, SET):
            return self._list(depth)
        if kind in (1, 2, 3, 7):
            return self._skip(8 if kind == 7 else 1)
        raise ValueError(f"an unknown type {kind}")

    def fields(self) -> Iterator[tuple[int, int]]:
        """Number and kind of each field of the structure here; the caller reads its value."""
        self._spend(1000)
        number = 0
        while byte := self.data[self.at]:
            self.at += 1
            number = number + (byte >> 4) if byte >> 4 else self._number()
            yield number, byte & 15
        self.at += 1

    def items(self, kind: int) -> int:
        """How many structures follow in the list here; the caller reads them."""
        count, inner = self._length()
        if kind != LIST or (count and inner != STRUCTURE):
            raise ValueError("no list of structures where there should be one")
        return count

    def _list(self, depth: int) -> int:
        count, kind = self._length()
        for _ in range(count):
            self.value(kind, depth)
        return count

    def _length(self) -> tuple[int, int]:
        """The length of the list here, and the kind of its items."""
        byte = self.data[self.at]
        self.at += 1
        count = self._varint() if byte >> 4 == 15 else byte >> 4
        if byte & 15 in (LIST, SET):
            raise ValueError("a list of lists")
        self._spend(32 * count)
        return count, byte & 15

    def _spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise ValueError("describes more than fits into memory")

    def _skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self.data):
            raise IndexError

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number is too long")

    def _number(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)


class Chunk(NamedTuple):
    """A column in a row group: its type (6: bytes), values, and where its pages start."""

    kind: int
    values: int
    data: int
    dictionary: int


@dataclass
class Footer:
    """Where each column of each row group is."""

    starts: list[int] = field(default_factory=lambda: [0])
    numbers: Any = field(default_factory=lambda: array("q"))

    def chunk(self, group: int, leaf: int) -> Chunk:
        """Column `leaf` of a row group; raises ValueError where there is none."""
        at = self.starts[group] + leaf
        if at >= self.starts[group + 1]:
            raise ValueError(f"row group {group} has no column {leaf}")
        return Chunk(*self.numbers[len(CHUNK) * at : len(CHUNK) * (at + 1)])


def read_footer(path: Path) -> Footer:
    """Raises ValueError where a file's footer would take more memory than it may, or is none,
    OSError as open_regular."""
    status = path.stat()
    return _read(path, status.st_size, status.st_mtime_ns)


@lru_cache(4)
def _read(path: Path, *version: int) -> Footer:
    with open_regular(path) as (file, size):
        end = os.pread(file.fileno(), 8, max(0, size - 8))
        if not end.endswith(MAGIC):
            return Footer()  # Arrow says what it is
        length = int.from_bytes(end[:4], "little")
        if length > LARGEST_FOOTER:
            raise ValueError(f"a footer of {length:,} bytes, over {LARGEST_FOOTER >> 20} MiB")
        thrift = Thrift(os.pread(file.fileno(), length, max(0, size - 8 - length)), MOST_IN_FOOTER)
    footer = Footer()
    try:
        for number, kind in thrift.fields():
            if number == SCHEMA:
                if (elements := thrift.items(kind)) > MOST_SCHEMA:
                    raise ValueError(f"a schema of {elements:,} elements, over {MOST_SCHEMA:,}")
                for _ in range(elements):
                    thrift.structure(1)
            elif number == ROW_GROUPS:
                for _ in range(thrift.items(kind)):
                    _read_row_group(thrift, footer)
            else:
                thrift.value(kind, 0)
    except IndexError:
        raise ValueError("its footer ends too early") from None
    return footer


def _read_row_group(thrift: Thrift, footer: Footer) -> None:
    for number, kind in thrift.fields():
        if number == COLUMNS:
            for _ in range(thrift.items(kind)):
                _read_column(thrift, footer)
        else:
            thrift.value(kind, 1)
    footer.starts.append(len(footer.numbers) // len(CHUNK))


def _read_column(thrift: Thrift, footer: Footer) -> None:
    chunk = dict.fromkeys(CHUNK, 0)
    for number, kind in thrift.fields():
        if number == COLUMN and kind == STRUCTURE:
            for inner, inner_kind in thrift.fields():
                value = thrift.value(inner_kind, 3)
                if inner in chunk and isinstance(value, int):
                    chunk[inner] = min(max(value, 0), LARGEST_NUMBER)
        else:
            thrift.value(kind, 2)
    footer.numbers.extend(chunk.values())
