"""Folders of shards that are made one for one from another folder's: in any order, by anyone.

What is there whole is not made again, so a run that was killed goes on with what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.shards import (
    Manifest,
    ShardEntry,
    read_manifest,
    read_shard,
    write_manifest,
    write_shard,
)
from pipeline.data.storage import StoredFolder
from pipeline.data.stored_shards import stored_entries, write_stored_shard
from pipeline.errors import DataError, SelftrainError
from pipeline.files import file_digest


def write_derived(out: Path | StoredFolder, name: str, table: Any) -> None:
    """Write one `pyarrow.Table` as the shard `name` of a local or stored folder."""
    if isinstance(out, StoredFolder):
        write_stored_shard(out, name, table)
    else:
        write_shard(out / name, table)


def missing_shards(folder: Path, out: Path | StoredFolder) -> list[int]:
    """The numbers of the shards of `folder` that `out` does not hold whole."""
    shards = read_manifest(folder).shards
    return [
        number
        for number, (entry, rows) in enumerate(zip(shards, _rows_in(out, shards), strict=True))
        if rows != entry.rows
    ]


def finish_derived(
    folder: Path,
    out: Path | StoredFolder,
    metadata: Mapping[str, Any],
    *,
    manifest_in: Path | None = None,
) -> Manifest:
    """Write the manifest of the shards in `out`; raises DataError where one is missing.

    manifest_in: the local folder for it, `out` itself if that is local.
    """
    if missing := missing_shards(folder, out):
        raise DataError(f"{out}: shards {missing[:5]} are missing; run the stage again")
    shards = read_manifest(folder).shards
    if isinstance(out, StoredFolder):
        assert manifest_in is not None
        found = stored_entries(out, [entry.file for entry in shards])
        return write_manifest(manifest_in, [entry for entry in found if entry], metadata)
    entries = [ShardEntry(e.file, e.rows, file_digest(out / e.file)) for e in shards]
    return write_manifest(manifest_in or out, entries, metadata)


def _rows_in(out: Path | StoredFolder, shards: Sequence[ShardEntry]) -> list[int | None]:
    """The number of rows that `out` holds of each shard, None where it does not hold it whole."""
    if isinstance(out, StoredFolder):
        found = stored_entries(out, [entry.file for entry in shards])
        return [None if entry is None else entry.rows for entry in found]
    return [_rows_of(out / entry.file) for entry in shards]


def _rows_of(path: Path) -> int | None:
    try:
        table: Any = read_shard(path, ["id"])
    except SelftrainError:
        return None
    return int(table.num_rows)
