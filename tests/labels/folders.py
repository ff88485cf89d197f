"""Folders of predictions and of labels that a test made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from pipeline.data.predictions import predictions_table
from pipeline.data.shards import shard_name, write_manifest, write_shard
from pipeline.tasks.classification import TASK


def write_predictions(
    out: Path,
    probabilities: ArrayLike,
    *,
    rows_per_shard: int = 4,
    ids: list[str] | None = None,
    strangers: NDArray[np.bool_] | None = None,
) -> list[str]:
    """Write predictions (N, K) as shards; returns the images' ids, image_0 and on if not given."""
    values = np.asarray(probabilities, np.float32)
    names = ids or [f"image_{place}" for place in range(len(values))]
    entries = []
    for number, start in enumerate(range(0, len(values), rows_per_shard)):
        rows = slice(start, start + rows_per_shard)
        with np.errstate(divide="ignore"):
            table = predictions_table(
                names[rows],
                number,
                TASK.prediction_columns(np.log(values[rows])),
                strangers=None if strangers is None else strangers[rows],
            )
        entries.append(write_shard(out / shard_name(number), table))
    write_manifest(out, entries, {"num_classes": values.shape[1]})
    return names


def write_labeled(out: Path, ids: list[str], labels: list[int], rows: int = 4) -> Path:
    """A prepared folder without images, in shards of `rows`."""
    entries = []
    for number, start in enumerate(range(0, len(ids), rows)):
        part = slice(start, start + rows)
        table = pa.table({"id": ids[part], "label": pa.array(labels[part], pa.int32())})
        entries.append(write_shard(out / shard_name(number), table))
    write_manifest(out, entries)
    return out
