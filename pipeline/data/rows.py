"""Read single rows of a folder of shards, only those that hold them, and sizes of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.data.shards import check_schema, check_shard, iter_shards, read_manifest, read_shard
from pipeline.errors import DataError

SIZE = (pa.field("width", pa.int32()), pa.field("height", pa.int32()))
"""columns of prepared shards whose images are whole (fit.py): the upright size as they came"""


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


def sizes_of(table: Any, source: Any) -> NDArray[np.int64]:
    """The width and height of the images of a table with the columns SIZE, (n, 2).

    Raises DataError, which names `source`, for columns that are missing or no sizes.
    """
    check_schema(table, pa.schema(SIZE), source)
    columns = [table.column(item.name).fill_null(0).to_numpy() for item in SIZE]
    sizes: NDArray[np.int64] = np.stack(columns, axis=1).astype(np.int64)
    if (sizes < 1).any():
        raise DataError(f"{source}: an image without its size; run its stage again")
    return sizes


def read_sizes(folder: Path) -> NDArray[np.int64]:
    """The same of all images of a prepared folder, (N, 2)."""
    names = [item.name for item in SIZE]
    parts = [sizes_of(table, folder) for table in iter_shards(folder, names)]
    return np.concatenate([np.empty((0, 2), np.int64), *parts])
