"""What the pages of a Parquet file would make Arrow allocate, from their headers.

Arrow trusts them: a page of a few bytes may expand to 2 GB, and a value of a dictionary may stand
in every row. A header says type (field 1), size (2), stored size (3), and in a structure of its
type values (1) and encoding (2).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

import numpy as np

from pipeline.data.sources.parquet_footer import Chunk, Footer, Thrift

LARGEST_HEADER = 16 << 20  # of a page, which may hold its least and largest value
LARGEST_PAGE = 512 << 20  # uncompressed
LARGEST_EXPANDED, MOST_EXPANSION = 64 << 20, 4  # of a larger one a quarter is in the file
ROWS_OF_SPAN, GROUPS_OF_SPAN = 1 << 16, 256  # row groups are read together up to so many
MOST_PAGES = 100_000  # of a column in them
BYTES_AT_ONCE = 64 << 20  # of rows that are read at once
TEXTS = 6  # the type of a column of bytes
DATA, DICTIONARY, DATA_V2 = 0, 2, 3  # types of pages
DELTA = {6: "DELTA_LENGTH_BYTE_ARRAY", 7: "DELTA_BYTE_ARRAY"}  # may claim any number of values
DETAILS = {DATA: 5, DICTIONARY: 7, DATA_V2: 8}  # the field of a header with more of its type


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
    file: BinaryIO, footer: Footer, groups: range, leaves: Iterable[int], most: int
) -> int:
    """How many rows of some row groups, up to `most`, to read at once for BYTES_AT_ONCE.

    footer: of the file; leaves: numbers of the columns that are read. Raises ValueError for a page
    over a limit, OSError.
    """
    columns = []
    for leaf in leaves:
        chunks = (footer.chunk(group, leaf) for group in groups)
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


def _pages(file: BinaryIO, chunk: Chunk) -> Iterator[Page]:
    """The data pages of a column in a row group, as Arrow goes through them."""
    at, dictionary, seen = chunk.data, 0, 0
    if 0 < chunk.dictionary < at:
        at = chunk.dictionary
    texts = chunk.kind == TEXTS
    while seen < chunk.values:
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
        thrift = Thrift(os.pread(file.fileno(), size, at), 1 << 20)
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
