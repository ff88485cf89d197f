"""Slices of a source: what the first pass makes of so many of its rows, a Parquet file each.

A slice is written whole or not at all. Its columns are read one by one, its images a row group at a
time. Unusable rows follow the usable ones, which alone are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.data.images import Pixels, decode_stored
from pipeline.data.preparation.duplicates import Ints
from pipeline.data.sources.rows import Source
from pipeline.data.storage import StoredFolder, written_in

FEWEST_SLICES = 64  # so that workers end at about the same time
SMALLEST, LARGEST = 64, 4096  # rows; each file costs a few milliseconds
MOST_TIMES = 8  # that rows which can only be read together are read
IMAGES_PER_GROUP = 64

Part = tuple[int, NDArray[np.int32]]
"""the number of a slice and some of its rows, counted in it, ascending"""


def slice_rows(source: Source) -> int:
    """How many rows of a source a slice has; the outputs do not depend on it."""
    rows = min(max(-(-len(source) // FEWEST_SLICES), SMALLEST), LARGEST)
    return max(rows, -(-source.rows_together // MOST_TIMES))


def slice_name(number: int) -> str:
    """The file name of a slice: `slice_00042.parquet`."""
    return f"slice_{number:05d}.parquet"


def write_slice(
    place: Path | StoredFolder, number: int, tables: Iterable[Any], schema: Any
) -> None:
    """Write tables of IMAGES_PER_GROUP rows at most, a row group each."""
    with (
        written_in(place, slice_name(number)) as path,
        pq.ParquetWriter(path, schema, compression="NONE", use_dictionary=False) as writer,
    ):
        for table in tables:
            writer.write_table(table)


@contextmanager
def open_slice(place: Path | StoredFolder, number: int) -> Iterator[Any]:
    """The `pyarrow.parquet.ParquetFile`; raises FileNotFoundError."""
    name = slice_name(number)
    if isinstance(place, Path):
        with pq.ParquetFile(place / name, pre_buffer=False) as file:
            yield file
    else:
        with place.open(name) as stored, pq.ParquetFile(stored, pre_buffer=True) as file:
            yield file


@dataclass(frozen=True)
class Slices:
    """All slices of a source, by the numbers of its usable rows over all.

    counts: of the usable rows of each.
    """

    place: Path | StoredFolder
    counts: Ints

    @cached_property
    def starts(self) -> Ints:
        """The first row of each, and the number of all."""
        return np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)

    def parts(self, rows: Ints) -> Iterator[Part]:
        """In which slices some rows are, ascending."""
        first = 0
        while first < len(rows):
            number = int(np.searchsorted(self.starts, rows[first], side="right")) - 1
            last = first + int(np.searchsorted(rows[first:], self.starts[number + 1]))
            yield number, (rows[first:last] - self.starts[number]).astype(np.int32)
            first = last

    def read(self, part: Part, columns: list[str]) -> Iterator[Any]:
        """Yield these rows as tables, one of each row group that has any."""
        number, rows = part
        with open_slice(self.place, number) as file:
            first = 0
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                low, high = np.searchsorted(rows, [first, first + count])
                if high > low:
                    table = file.read_row_group(group, columns, use_threads=False)
                    yield table.take(pa.array(rows[low:high] - first))
                first += count

    def every(self, columns: list[str]) -> Iterator[tuple[int, Any]]:
        """Yield all rows as tables, one of each slice, with its first row."""
        for number, (start, count) in enumerate(zip(self.starts, self.counts, strict=False)):
            with open_slice(self.place, number) as file:
                yield int(start), file.read(columns, use_threads=False).slice(0, count)

    def values(self, rows: Ints, column: str) -> dict[int, Any]:
        """The values of a column in some rows, ascending, by row."""
        found: dict[int, Any] = {}
        for number, places in self.parts(rows):
            tables = list(self.read((number, places), [column]))
            values = pa.concat_tables(tables).column(column).to_pylist()
            found |= zip((places + self.starts[number]).tolist(), values, strict=True)
        return found

    def pixels(self, rows: Ints) -> dict[int, Pixels]:
        """The stored pixels (S, S, C) uint8 of some rows, ascending, by row."""
        return {row: decode_stored(data) for row, data in self.values(rows, "image").items()}

    def thumbnails(self, part: Part) -> Pixels:
        """The thumbnails (n, P) uint8 of some rows."""
        tables = list(self.read(part, ["thumbnail"]))
        data = b"".join(pa.concat_tables(tables).column("thumbnail").to_pylist())
        return np.frombuffer(data, np.uint8).reshape(len(part[1]), -1)
