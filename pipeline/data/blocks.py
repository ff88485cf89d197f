"""Blocks of prepared images: row groups of their shards, read one by one and not the whole shard.

A shard's SHA-256 is of all of it, so it is not checked here; a stored image carries a
checksum of its own, and a shard with another number of rows, or of other groups, is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.data.predictions import (
    REPEATS,
    TaskColumns,
    pseudo_label_schema,
    repeats_of,
    targets_of,
)
from pipeline.data.shards import Manifest, ShardEntry, check_schema, read_entry, read_manifest
from pipeline.data.storage import StoredFolder, missing
from pipeline.errors import DataError
from pipeline.files import regular

Integers = NDArray[np.int64]
Targets = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocks of a folder, in the order of its rows: of each its shard, the number of its group
    there, its first row there, and its number of rows; (B,) each.
    """

    shard: Integers
    group: Integers
    first: Integers
    rows: Integers

    @cached_property
    def start(self) -> Integers:
        """The first row of each over all shards, (B,)."""
        return np.cumsum(self.rows) - self.rows


def blocks_of(folder: Path, manifest: Manifest) -> Blocks:
    """The blocks of a prepared folder; raises DataError where its first shard can't be read."""
    if not manifest.shards:
        return Blocks(*np.zeros((4, 0), np.int64))
    size = group_size(folder, manifest.shards[0])
    columns = [
        (number, group, first, min(size, entry.rows - first))
        for number, entry in enumerate(manifest.shards)
        for group, first in enumerate(range(0, entry.rows, size))
    ]
    return Blocks(*np.array(columns, np.int64).T)


def group_size(folder: Path, entry: ShardEntry) -> int:
    """The number of rows of each group of a shard, except its last; raises DataError."""
    with ShardFile(folder, entry) as shard:
        return int(shard.file.metadata.row_group(0).num_rows) if shard.file.num_row_groups else 1


class ShardFile:
    """A shard open for reading some of its groups, of the rows that the manifest says.

    Raises DataError.
    """

    def __init__(self, folder: Path, entry: ShardEntry) -> None:
        self._name = folder / entry.file
        try:
            if entry.prefix is None:
                source = pa.memory_map(str(regular(self._name)))
            else:
                source = StoredFolder(entry.prefix).open(entry.stored_name)
            self.file: Any = pq.ParquetFile(source)
        except FileNotFoundError:
            if entry.prefix is None:
                raise DataError(f"{self._name}: missing; run its stage again") from None
            uri = StoredFolder(entry.prefix).object_uri(entry.stored_name)
            raise missing(uri, folder / "manifest.json") from None
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DataError(f"{self._name}: not a readable shard ({error})") from None
        if self.file.metadata.num_rows != entry.rows:
            raise DataError(
                f"{self._name}: {self.file.metadata.num_rows} rows, its manifest says "
                f"{entry.rows}; run its stage again"
            )

    def __enter__(self) -> ShardFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close(force=True)

    def read(self, groups: Iterable[int], schema: Any) -> Any:
        """Some row groups as one `pyarrow.Table`, its types checked."""
        try:
            table = self.file.read_row_groups(list(groups), schema.names, use_threads=False)
            table.validate(full=True)
        except (OSError, ValueError, KeyError, IndexError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{self._name}: not a readable shard ({reason})") from None
        return check_schema(table, schema, self._name)


class PseudoLabelReader:
    """A folder of pseudo-labels, shard for shard those of a folder of images."""

    def __init__(self, folder: Path, task: TaskColumns) -> None:
        self._folder, self._manifest, self._task = folder, read_manifest(folder), task
        self._schema = pseudo_label_schema(folder, self._manifest, task)

    def counts(self, images: Manifest, blocks: Blocks) -> Integers:
        """How many items the images of each block are, (B,); raises DataError."""
        shards = self._manifest.shards
        other = DataError(f"{self._folder}: not of the prepared images; run select again")
        if not self._manifest.is_of(images):
            raise other
        schema = pa.schema([self._schema.field(name) for name in ("shard", "row", REPEATS.name)])
        counts: Integers = np.zeros(len(blocks.rows), np.int64)
        ends = np.searchsorted(blocks.shard, np.arange(len(shards) + 1))
        for number, entry in enumerate(shards):
            table = read_entry(self._folder, entry, schema.names)
            check_schema(table, schema, self._folder)
            shard, row = table.column("shard").to_numpy(), table.column("row").to_numpy()
            if (shard != number).any() or (row != np.arange(len(row))).any():
                raise other
            if entry.rows:
                own, repeats = slice(*ends[number : number + 2]), repeats_of(self._folder, table)
                counts[own] = np.add.reduceat(repeats.astype(np.int64), blocks.first[own])
        return counts

    def of_block(self, number: int, first: int, count: int) -> tuple[NDArray[np.int32], Any]:
        """How often each of `count` rows of shard `number` from `first` counts, (n,), and the table
        of them, which `read` takes some rows of."""
        entry = self._manifest.shards[number]
        with ShardFile(self._folder, entry) as shard:
            size = shard.file.metadata.row_group(0).num_rows
            groups = range(first // size, (first + count - 1) // size + 1)
            table = shard.read(groups, self._schema).slice(first - groups[0] * size, count)
        return repeats_of(self._folder, table), table

    def read(self, table: Any) -> Targets:
        """The targets (n, …) of rows of such a table."""
        return targets_of(self._folder, self._manifest, table, self._task)
