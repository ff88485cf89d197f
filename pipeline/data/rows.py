"""Read single rows of a folder of shards: only the shards that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.data.shards import check_shard, iter_shards, read_manifest, read_shard


def read_rows(folder: Path, rows: Sequence[int], columns: list[str]) -> Any:
    """The rows of these numbers, counted over all shards, in this order: a `pyarrow.Table`.

    Raises DataError where a shard is missing or altered, IndexError for a row that is not there.
    """
    manifest = read_manifest(folder)
    queries = np.asarray(rows, np.int64)
    if len(queries) and not 0 <= queries.min() <= queries.max() < manifest.rows:
        raise IndexError(f"{folder} has {manifest.rows} rows, and {rows} were asked for")
    ends = np.cumsum([entry.rows for entry in manifest.shards])
    shards = np.searchsorted(ends, queries, side="right")
    parts, places = [], []
    for number in np.unique(shards).tolist():
        entry = manifest.shards[number]
        here = np.flatnonzero(shards == number)
        table = read_shard(check_shard(folder, entry), columns)
        parts.append(table.take(pa.array(queries[here] - (ends[number] - entry.rows))))
        places.append(here)
    if not parts:
        return pa.table({name: pa.array([], pa.null()) for name in columns})
    order = np.argsort(np.concatenate(places), kind="stable")
    return pa.concat_tables(parts).take(pa.array(order))


def find_rows(folder: Path, ids: Sequence[str]) -> dict[str, int]:
    """The row of each id, counted over all shards; ids that are not there are left out."""
    queries, rows, first = set(ids), {}, 0
    for table in iter_shards(folder, ["id"]):
        for place, name in enumerate(table.column("id").to_pylist()):
            if name in queries:
                rows[name] = first + place
        first += table.num_rows
    return rows
