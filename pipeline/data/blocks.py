"""Blocks of prepared images: row groups of their shards, read one by one and not the whole shard.

A shard's SHA-256 is of all of it, so it is not looked at here; a PNG carries its own checksums, and
a shard with another number of rows, or of other groups, is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.data.predictions import pseudo_label_schema, repeats_of, targets_of
from pipeline.data.shards import Manifest, ShardEntry, check_schema, read_entry, read_manifest
from pipeline.data.storage import StoredFolder, missing
from pipeline.errors import DataError

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocks of a folder, in the order of its rows: of each its shard, the number of its group
    there, its first row there, its number of rows, and its first row over all; (B,) each.
    """

    shard: Integers
    group: Integers
    first: Integers
    rows: Integers
    start: Integers


def blocks_of(folder: Path, manifest: Manifest) -> Blocks:
    """The blocks of a prepared folder; raises DataError where its first shard can't be read."""
    columns: list[tuple[int, int, int, int]] = []
    size = 1
    if manifest.shards:
        with open_entry(folder, manifest.shards[0]) as file:
            size = max(1, file.metadata.row_group(0).num_rows) if file.num_row_groups else 1
    for number, entry in enumerate(manifest.shards):
        for group, first in enumerate(range(0, entry.rows, size)):
            columns.append((number, group, first, min(size, entry.rows - first)))
    table = np.array(columns, np.int64).reshape(-1, 4)
    starts = np.cumsum(table[:, 3]) - table[:, 3]
    return Blocks(table[:, 0], table[:, 1], table[:, 2], table[:, 3], starts)


@contextmanager
def open_entry(folder: Path, entry: ShardEntry) -> Iterator[Any]:
    """A shard as an open Parquet file of the rows that the manifest says; raises DataError."""
    with _source(folder, entry) as source:
        try:
            file = pq.ParquetFile(source)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DataError(f"{folder / entry.file}: not a readable shard ({error})") from None
        with file:
            if file.metadata.num_rows != entry.rows:
                raise DataError(
                    f"{folder / entry.file}: {file.metadata.num_rows} rows, its manifest says "
                    f"{entry.rows}; run its stage again"
                )
            yield file


def read_group(file: Any, group: int, schema: Any, name: object) -> Any:
    """One row group of an open shard as a `pyarrow.Table`, its types checked; raises DataError."""
    try:
        table = file.read_row_group(group, schema.names, use_threads=False)
        table.validate(full=True)
    except (OSError, ValueError, KeyError, IndexError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{name}: not a readable shard ({reason})") from None
    return check_schema(table, schema, Path(str(name)))


@contextmanager
def _source(folder: Path, entry: ShardEntry) -> Iterator[Any]:
    if entry.prefix is None:
        try:
            file = pa.memory_map(str(folder / entry.file))
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{folder / entry.file}: can't be read ({error})") from None
        with file:
            yield file
        return
    stored = StoredFolder(entry.prefix)
    try:
        opened = stored.open(entry.stored_name)
    except FileNotFoundError:
        uri = stored.object_uri(entry.stored_name)
        raise missing(uri, folder / "manifest.json") from None
    with opened:
        yield opened


class PseudoLabelReader:
    """A folder of pseudo-labels, shard for shard those of a folder of images."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._manifest = folder, read_manifest(folder)
        self._schema = pseudo_label_schema(folder, self._manifest)
        self._of_shard = list(self._manifest.shards)

    def counts(self, images: Manifest, blocks: Blocks) -> Integers:
        """How many items the images of each block are, (B,); raises DataError."""
        rows = [entry.rows for entry in images.shards]
        if [entry.rows for entry in self._of_shard] != rows:
            raise DataError(f"{self._folder}: not of the prepared images; run select again")
        counts = np.zeros(len(blocks.rows), np.int64)
        of_block = np.split(np.arange(len(blocks.rows)), np.cumsum(np.bincount(blocks.shard))[:-1])
        names = ["shard", "row", "repeats"]
        for number, entry in enumerate(self._of_shard):
            table = read_entry(self._folder, entry, names)
            check_schema(table, self._schema.empty_table().select(names).schema, self._folder)
            shard, row = table.column("shard").to_numpy(), table.column("row").to_numpy()
            if (shard != number).any() or (row != np.arange(len(row))).any():
                raise DataError(f"{self._folder}: not of the prepared images; run select again")
            if len(row):
                repeats = repeats_of(self._folder, table).astype(np.int64)
                counts[of_block[number]] = np.add.reduceat(repeats, blocks.first[of_block[number]])
        return counts

    def of_block(
        self, number: int, first: int, count: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """How often each of `count` rows of shard `number` from `first` counts, and its target.

        (n,) and (n, K).
        """
        entry = self._of_shard[number]
        with open_entry(self._folder, entry) as file:
            size = file.metadata.row_group(0).num_rows
            groups = range(first // size, (first + count - 1) // size + 1)
            name = self._folder / entry.file
            tables = [read_group(file, group, self._schema, name) for group in groups]
        repeats = np.concatenate([repeats_of(self._folder, table) for table in tables])
        targets = np.concatenate([targets_of(self._folder, self._manifest, t) for t in tables])
        at = first - groups[0] * size
        return repeats[at : at + count], targets[at : at + count]
