"""What a teacher thought of the unlabelled images, and which of that became pseudo-labels: schemas.

Both are folders of shards, one for each shard of unlabelled images, row by row in its order; the
manifest's metadata says the number of classes and, of pseudo-labels, the form of the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.data.rows import read_rows
from pipeline.data.shards import check_schema, iter_shards, read_manifest
from pipeline.errors import DataError

Floats = NDArray[np.float32]

MOST_CLASSES = 100_000
MOST_REPEATS = 1000
PLACE = (
    pa.field("id", pa.string(), nullable=False),
    pa.field("shard", pa.int32(), nullable=False),
    pa.field("row", pa.int32(), nullable=False),
)
CHOICE = (
    pa.field("label", pa.int32(), nullable=False),
    pa.field("repeats", pa.int32(), nullable=False),
)


@dataclass(frozen=True)
class Predictions:
    """One shard's: ids (n,), shard and row (n,) int32, log_probs (n, K) float32."""

    ids: list[str]
    shard: NDArray[np.int32]
    row: NDArray[np.int32]
    log_probs: Floats


@dataclass(frozen=True)
class PseudoLabels:
    """The images that count, each as often as it counts, in the order of the shards.

    shard, row: (R,) int64, the place of the image; targets: (R, K) float32 probabilities.
    """

    shard: NDArray[np.int64]
    row: NDArray[np.int64]
    targets: Floats


def predictions_table(ids: Sequence[str], shard: int, log_probs: Floats) -> Any:
    """A shard of predictions as a `pyarrow.Table`; log_probs (n, K) are stored as float16."""
    rows = len(ids)
    return pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "shard": pa.array(np.full(rows, shard, np.int32)),
            "row": pa.array(np.arange(rows, dtype=np.int32)),
            "log_probs": _matrix(log_probs.astype(np.float16)),
        }
    )


def read_predictions(folder: Path) -> Any:
    """Yield the Predictions of each shard of `folder`, in order; raises DataError."""
    schema = pa.schema([*PLACE, _list_field("log_probs", _num_classes(folder))])
    for table in iter_shards(folder):
        check_schema(table, schema, folder)
        yield Predictions(
            ids=table.column("id").to_pylist(),
            shard=table.column("shard").to_numpy(),
            row=table.column("row").to_numpy(),
            log_probs=_values(table.column("log_probs")),
        )


def read_log_probs(folder: Path, rows: Sequence[int]) -> Floats:
    """Log-probabilities (n, K) float32 of some rows, counted over all shards, of predictions."""
    return _values(read_rows(folder, rows, ["log_probs"]).column("log_probs"))


def pseudo_labels_table(
    predictions: Predictions,
    labels: NDArray[np.int32],
    confidences: Floats,
    repeats: NDArray[np.int32],
    reasons: Sequence[str],
    probabilities: Floats,
) -> Any:
    """A shard of pseudo-labels: every image, kept or not, with the reason; all arrays (n, …)."""
    return pa.table(
        {
            "id": pa.array(predictions.ids, pa.string()),
            "shard": pa.array(predictions.shard),
            "row": pa.array(predictions.row),
            "label": pa.array(labels.astype(np.int32)),
            "confidence": pa.array(confidences.astype(np.float32)),
            "repeats": pa.array(repeats.astype(np.int32)),
            "reason": pa.array(reasons, pa.string()),
            "probabilities": _matrix(probabilities.astype(np.float16)),
        }
    )


def read_pseudo_labels(folder: Path) -> PseudoLabels:
    """The pseudo-labels in `folder` in the form that training takes; raises DataError."""
    kind, num_classes = _metadata(folder)
    schema = pa.schema([*PLACE[1:], *CHOICE, _list_field("probabilities", num_classes)])
    shards, rows, targets = [], [], []
    for table in iter_shards(folder, schema.names):
        check_schema(table, schema, folder)
        repeats = table.column("repeats").to_numpy()
        _check_within(folder, "repeats", repeats, MOST_REPEATS)
        shards.append(np.repeat(table.column("shard").to_numpy(), repeats))
        rows.append(np.repeat(table.column("row").to_numpy(), repeats))
        if kind == "hard":
            of_shard = _one_hot(folder, table.column("label").to_numpy(), num_classes)
        else:
            of_shard = _normalised(folder, _values(table.column("probabilities")))
        targets.append(np.repeat(of_shard, repeats, axis=0))
    if not shards:
        empty = np.empty(0, np.int64)
        return PseudoLabels(empty, empty, np.empty((0, num_classes), np.float32))
    return PseudoLabels(
        np.concatenate(shards).astype(np.int64),
        np.concatenate(rows).astype(np.int64),
        np.concatenate(targets),
    )


def _metadata(folder: Path) -> tuple[str, int]:
    kind = read_manifest(folder).metadata.get("label_kind")
    if kind not in ("soft", "hard"):
        raise DataError(f"{folder}: its manifest does not say label_kind; run its stage again")
    return str(kind), _num_classes(folder)


def _num_classes(folder: Path) -> int:
    number: Any = read_manifest(folder).metadata.get("num_classes")
    if type(number) is not int or not 1 <= number <= MOST_CLASSES:
        raise DataError(f"{folder}: its manifest does not say num_classes; run its stage again")
    return number


def _one_hot(folder: Path, labels: NDArray[np.int32], num_classes: int) -> Floats:
    """(n, K) with a one at each label (n,)."""
    _check_within(folder, "label", labels, num_classes - 1)
    targets = np.zeros((len(labels), num_classes), np.float32)
    targets[np.arange(len(labels)), labels] = 1
    return targets


def _normalised(folder: Path, probabilities: Floats) -> Floats:
    """(n, K) that sum to one; DataError where a row is no distribution."""
    sums = probabilities.sum(axis=1, keepdims=True)
    if not (np.isfinite(sums) & (sums > 0)).all() or (probabilities < 0).any():
        raise DataError(f"{folder}: probabilities that are none; run its stage again")
    shares: Floats = probabilities / sums
    return shares


def _check_within(folder: Path, name: str, values: NDArray[np.int32], most: int) -> None:
    if len(values) and not 0 <= values.min() <= values.max() <= most:
        raise DataError(f"{folder}: {name!r} must be 0 to {most} in every row")


def _list_field(name: str, length: int) -> Any:
    return pa.field(name, pa.list_(pa.float16(), length), nullable=False)


def _matrix(values: NDArray[np.float16]) -> Any:
    """(n, K) as a column of fixed-size lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _values(column: Any) -> Floats:
    """A column of fixed-size lists as (n, K) float32."""
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(len(column), column.type.list_size)
