"""Write rows one by one to a folder of shards, such as images as they are prepared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.data.shards import (
    ROWS_PER_GROUP,
    Manifest,
    ShardEntry,
    parquet_writer,
    read_manifest,
    shard_name,
    write_manifest,
)
from pipeline.files import file_digest, written_whole

ROWS_WAITING = 1024
IMAGES_PER_GROUP = 64  # so that a stream can read a few images from many places


class ShardWriter:
    """Write rows to `shard_00000.parquet`, … in a folder, and the manifest when closed.

    Rows are held in memory by the thousand, not by the shard. Used as a context, an error inside
    leaves no manifest.
    """

    def __init__(
        self,
        folder: Path,
        schema: Any,
        *,
        rows_per_shard: int,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._folder, self._schema, self._rows_per_shard = folder, schema, rows_per_shard
        self._metadata = dict(metadata or {})
        self._entries: list[ShardEntry] = []
        self._waiting: list[Mapping[str, Any]] = []
        self._rows_in_shard = 0
        self._open_file: Any = None
        self._stack = ExitStack()
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, row: Mapping[str, Any]) -> None:
        """Append one row: a value for each column of the schema."""
        self._waiting.append(row)
        full = self._rows_in_shard + len(self._waiting) == self._rows_per_shard
        if full or len(self._waiting) == ROWS_WAITING:
            self._flush()
        if full:
            self._finish_shard()

    def close(self) -> Manifest:
        """Finish the last shard and write the manifest."""
        self._flush()
        self._finish_shard()
        return write_manifest(self._folder, self._entries, self._metadata)

    def _flush(self) -> None:
        if not self._waiting:
            return
        if self._open_file is None:
            path = self._folder / shard_name(len(self._entries))
            partial = self._stack.enter_context(written_whole(path))
            self._open_file = self._stack.enter_context(parquet_writer(partial, self._schema))
        table = pa.Table.from_pylist(self._waiting, schema=self._schema)
        self._open_file.write_table(table, row_group_size=IMAGES_PER_GROUP)
        self._rows_in_shard += len(self._waiting)
        self._waiting = []

    def _finish_shard(self) -> None:
        if self._open_file is None:
            return
        self._stack.close()
        path = self._folder / shard_name(len(self._entries))
        self._entries.append(ShardEntry(path.name, self._rows_in_shard, file_digest(path)))
        self._rows_in_shard, self._open_file = 0, None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: Any) -> None:
        if kind is None:
            self.close()
        else:
            self._stack.__exit__(kind, *raised)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], schema: Any) -> None:
    """Write rows to one file as `write_shard` does, few of them in memory."""
    left = iter(rows)
    with written_whole(path) as partial, parquet_writer(partial, schema) as writer:
        group = list(islice(left, ROWS_PER_GROUP))
        while True:
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            if not (group := list(islice(left, ROWS_PER_GROUP))):
                break


def write_shards(
    folder: Path,
    rows: Iterable[Mapping[str, Any]],
    schema: Any,
    *,
    rows_per_shard: int,
    metadata: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write `rows` as shards of `rows_per_shard` rows under `folder`, then the manifest."""
    with ShardWriter(folder, schema, rows_per_shard=rows_per_shard, metadata=metadata) as writer:
        for row in rows:
            writer.add(row)
    return read_manifest(folder)
