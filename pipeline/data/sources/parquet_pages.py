"""What a Parquet file would make Arrow allocate, from its footer and the headers of its pages.

Arrow trusts both: a footer of a megabyte may describe structures of gigabytes, a page of a few
bytes may expand to 2 GB, and a value of a dictionary may stand in every row. They are in Thrift's
compact encoding, of which a page's header says type (field 1), size (2), stored size (3), and in a
structure of its type values (1) and encoding (2).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pipeline.files import open_regular

LARGEST_FOOTER = 40 << 20
LARGEST_HEADER = 16 << 20  # of a page, which may hold its least and largest value
MOST_IN_FOOTER = 1_000_000_000  # bytes that it takes in memory, about
MOST_SCHEMA = 20_000  # of a footer's elements of the schema, which may lie in each other
LARGEST_PAGE = 512 << 20  # uncompressed
LARGEST_EXPANDED, MOST_EXPANSION = (
    64 << 20,
    4,
)  # a larger one has a quarter of its bytes in the file
ROWS_OF_SPAN, GROUPS_OF_SPAN = 1 << 16, 256  # row groups are read together up to so many
MOST_PAGES = 100_000  # of a column in them
BYTES_AT_ONCE = 64 << 20  # of rows that are read at once
DATA, DICTIONARY, DATA_V2 = 0, 2, 3  # types of pages
DELTA = {6: "DELTA_LENGTH_BYTE_ARRAY", 7: "DELTA_BYTE_ARRAY"}  # may claim any number of values
DETAILS = {DATA: 5, DICTIONARY: 7, DATA_V2: 8}  # the field of a header with more of its type


class _Thrift:
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
                fields[number] = self._value(kind, depth)
        self.at += 1
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if 4 <= kind <= 6:
            return self._number()
        if kind == 8:
            return self._skip(self._varint())
        if kind == 12:
            return self.structure(depth + 1)
        if kind in (9, 10):
            return self._list(depth)
        if kind in (1, 2, 3, 7):
            return self._skip(8 if kind == 7 else 1)
        raise ValueError(f"an unknown type {kind}")

    def _list(self, depth: int) -> int:
        byte = self.data[self.at]
        self.at += 1
        count = self._varint() if byte >> 4 == 15 else byte >> 4
        self._spend(32 * count)
        for _ in range(count):
            self._value(byte & 15, depth)
        return count

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


def check_footer(path: Path) -> None:
    """Raise ValueError where a file's footer would take more memory than it may, OSError as
    open_regular; what else is wrong with it Arrow says."""
    status = path.stat()
    _check_footer(path, status.st_size, status.st_mtime_ns)


@lru_cache(4096)
def _check_footer(path: Path, *_: int) -> None:
    with open_regular(path) as (file, size):
        length = int.from_bytes(os.pread(file.fileno(), 4, max(0, size - 8)), "little")
        if length > LARGEST_FOOTER:
            raise ValueError(f"a footer of {length:,} bytes, over {LARGEST_FOOTER >> 20} MiB")
        data = os.pread(file.fileno(), length, max(0, size - 8 - length))
    try:
        elements = _Thrift(data, MOST_IN_FOOTER).structure().get(2)
    except IndexError:
        return
    if isinstance(elements, int) and elements > MOST_SCHEMA:
        raise ValueError(f"a schema of {elements:,} elements, over {MOST_SCHEMA:,}")


@dataclass(frozen=True)
class Page:
    """A page of a column: its values, and the bytes that one or all of them take at most."""

    values: int
    one: int
    all: int


def spans(metadata: Any) -> Iterator[range]:
    """Row groups that follow each other, to be read in one go: Arrow takes long to start."""
    first = rows = 0
    for group in range(metadata.num_row_groups):
        rows += metadata.row_group(group).num_rows
        if rows >= ROWS_OF_SPAN or group - first + 1 == GROUPS_OF_SPAN:
            yield range(first, group + 1)
            first, rows = group + 1, 0
    if first < metadata.num_row_groups:
        yield range(first, metadata.num_row_groups)


def rows_at_once(
    file: BinaryIO, metadata: Any, groups: range, leaves: Iterable[int], most: int
) -> int:
    """How many rows of some row groups, up to `most`, to read at once for BYTES_AT_ONCE.

    metadata: `pyarrow.parquet.FileMetaData`; leaves: numbers of the columns that are read. Raises
    ValueError for a page over a limit, OSError.
    """
    columns = []
    for leaf in leaves:
        chunks = (metadata.row_group(group).column(leaf) for group in groups)
        pages = list(islice((page for chunk in chunks for page in _pages(file, chunk)), MOST_PAGES))
        if len(pages) == MOST_PAGES:
            raise ValueError(f"over {MOST_PAGES:,} pages in a row group; write more rows to a page")
        columns.append(pages)
    if sum(page.all for pages in columns for page in pages) <= BYTES_AT_ONCE:
        return most
    while most > 1 and sum(_largest(pages, most) for pages in columns) > BYTES_AT_ONCE:
        most //= 2
    return most


def _largest(pages: list[Page], rows: int) -> int:
    """The bytes that so many consecutive values of these pages take at most."""
    if not pages:
        return 0
    ends = np.cumsum([page.values for page in pages])
    costs = np.cumsum([0, *(min(min(rows, page.values) * page.one, page.all) for page in pages)])
    last = np.minimum(np.searchsorted(ends, ends - 1 + rows), len(pages) - 1)
    return int((costs[last + 1] - costs[:-1]).max())


def _pages(file: BinaryIO, chunk: Any) -> Iterator[Page]:
    """The data pages of a column in a row group, as Arrow goes through them."""
    at, dictionary, seen = chunk.data_page_offset, 0, 0
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < at:
        at = chunk.dictionary_page_offset
    texts = chunk.physical_type == "BYTE_ARRAY"
    while seen < chunk.num_values:
        header, start = _header(file, at)
        kind, stored = header.get(1), _whole(header.get(3))
        details = header.get(DETAILS[kind]) if kind in DETAILS else None
        details = details if isinstance(details, dict) else {}
        values, size = _whole(details.get(1, 0)), _checked_size(_whole(header.get(2)), stored)
        if kind == DICTIONARY:
            dictionary = _checked_size(size + 16 * values, stored)
        if kind in (DATA, DATA_V2):
            encoding = details.get(2 if kind == DATA else 4)
            if encoding in DELTA and texts:
                raise ValueError(f"{DELTA[encoding]}, which is not read; write it as pyarrow does")
            plain = not texts or encoding == 0
            one = size if plain else dictionary
            yield Page(values, one, size if plain else values * dictionary)
            seen += values
        else:
            yield Page(0, 0, 0)  # counted
        at = start + stored


def _header(file: BinaryIO, at: int) -> tuple[dict[int, Any], int]:
    """The header of the page at this place, and where its content starts."""
    for size in (1024, LARGEST_HEADER):
        thrift = _Thrift(os.pread(file.fileno(), size, at), 1 << 20)
        try:
            return thrift.structure(), at + thrift.at
        except IndexError:
            continue
    raise ValueError("a page ends too early")


def _whole(number: Any) -> int:
    if not isinstance(number, int) or not 0 <= number < 1 << 31:
        raise ValueError("a page of a size that makes no sense")
    return number


def _checked_size(size: int, stored: int) -> int:
    """What a page takes; raises ValueError over the limits."""
    size = max(size, stored)
    if size > LARGEST_PAGE or (size > LARGEST_EXPANDED and size > MOST_EXPANSION * stored):
        raise ValueError(
            f"a page of {stored:,} bytes that takes {size:,}; write fewer rows to a page"
        )
    return size
