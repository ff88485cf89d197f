"""What a teacher thought of the unlabelled images, and which of that became pseudo-labels: schemas.

Both are folders of shards, one for each shard of unlabelled images, row by row in its order; the
manifest's metadata says the number of classes and, of pseudo-labels, the form of the target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.data.distributions import (
    Distributions,
    as_stored,
    distribution_columns,
    distribution_fields,
    read_distributions,
)
from pipeline.data.rows import read_rows
from pipeline.data.shards import Manifest, check_schema, iter_shards, read_entry, read_manifest
from pipeline.errors import DataError

Floats = NDArray[np.float32]

MOST_CLASSES = 100_000
MOST_REPEATS = 1000
PLACE = (
    pa.field("id", pa.string(), nullable=False),
    pa.field("shard", pa.int32(), nullable=False),
    pa.field("row", pa.int32(), nullable=False),
)
OUTLINE = (
    pa.field("label", pa.int32(), nullable=False),
    pa.field("log_confidence", pa.float16(), nullable=False),
)
STRANGER = pa.field("stranger", pa.bool_(), nullable=False)  # only where a stage looked for them
REPEATS = pa.field("repeats", pa.int32(), nullable=False)


@dataclass(frozen=True)
class Predictions:
    """One shard's: ids (n,), shard and row (n,) int32, log_probs (n, K) float32.

    strangers: (n,) whether an image shows none of the classes, None where nobody looked.
    """

    ids: list[str]
    shard: NDArray[np.int32]
    row: NDArray[np.int32]
    log_probs: Floats
    strangers: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class PseudoLabels:
    """The images that count, each as often as it counts, in the order of the shards.

    shard, row: (R,) int64, the place of the image; targets: (R, …) as the task has them.
    """

    shard: NDArray[np.int64]
    row: NDArray[np.int64]
    targets: NDArray[Any]


def predictions_table(
    ids: Sequence[str],
    shard: int,
    log_probs: Floats,
    precision: Sequence[str] = ("float32",),
    strangers: NDArray[np.bool_] | None = None,
) -> Any:
    """A shard of predictions as a `pyarrow.Table`; log_probs (n, K) are stored as float16.

    Beside them stand the likeliest class and its log-probability, which a selection reads alone.
    precision: in which number format each model computed; noted in the file's metadata. strangers:
    (n,) whether an image shows none of the classes; None where nobody looked.
    """
    rows, stored = len(ids), as_stored(log_probs)
    table = pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "shard": pa.array(np.full(rows, shard, np.int32)),
            "row": pa.array(np.arange(rows, dtype=np.int32)),
            "label": pa.array(stored.labels),
            "log_confidence": pa.array(stored.values.max(axis=1).astype(np.float16)),
            **distribution_columns(stored, "log_probs"),
        }
    )
    if strangers is not None:
        table = table.append_column(STRANGER, pa.array(strangers, pa.bool_()))
    return table.replace_schema_metadata({"precision": ", ".join(precision)})


def read_predictions(folder: Path) -> Iterator[Predictions]:
    """The predictions of each shard of `folder`, in order; raises DataError."""
    num_classes = num_classes_of(folder, read_manifest(folder))
    schema = pa.schema([*PLACE, *distribution_fields(num_classes, "log_probs")])
    for table in iter_shards(folder, schema.names, [STRANGER.name]):
        check_schema(table, schema, folder)
        yield Predictions(
            ids=table.column("id").to_pylist(),
            shard=table.column("shard").to_numpy(),
            row=table.column("row").to_numpy(),
            log_probs=read_distributions(table, num_classes, "log_probs", folder).dense(),
            strangers=strangers_of(table, folder),
        )


def strangers_of(table: Any, folder: Path) -> NDArray[np.bool_] | None:
    """Which rows of a table of predictions are strangers, (n,); None where nobody looked.

    Raises DataError for a column of another kind.
    """
    if STRANGER.name not in table.schema.names:
        return None
    check_schema(table, pa.schema([STRANGER]), folder)
    return np.asarray(table.column(STRANGER.name).to_numpy(), np.bool_)


def read_log_probs(folder: Path, rows: Sequence[int]) -> Floats:
    """Log-probabilities (n, K) float32 of some rows, counted over all shards, of predictions."""
    num_classes = num_classes_of(folder, read_manifest(folder))
    names = [item.name for item in distribution_fields(num_classes, "log_probs")]
    table = read_rows(folder, rows, names)
    return read_distributions(table, num_classes, "log_probs", folder).dense()


def pseudo_labels_table(
    place: Any,
    labels: NDArray[np.int32],
    confidences: Floats,
    repeats: NDArray[np.int32],
    reasons: Any,
    probabilities: Distributions,
) -> Any:
    """A shard of pseudo-labels: every image, kept or not, with the reason; all arrays (n, …).

    place: the table of predictions, of which id, shard and row are taken; reasons: an Arrow array
    of text.
    """
    return pa.table(
        {item.name: place.column(item.name).combine_chunks() for item in PLACE}
        | {
            "label": pa.array(labels.astype(np.int32)),
            "confidence": pa.array(confidences.astype(np.float32)),
            "repeats": pa.array(repeats.astype(np.int32)),
            "reason": reasons,
        }
        | distribution_columns(probabilities, "probabilities")
    )


def read_pseudo_labels(folder: Path, task: Any) -> PseudoLabels:
    """The pseudo-labels in `folder` in the form that training takes; raises DataError."""
    manifest = read_manifest(folder)
    label_kind_of(folder, manifest)
    none, num_classes = np.empty(0, np.int64), num_classes_of(folder, manifest)
    numbers = range(len(manifest.shards))
    parts = [read_pseudo_label_shard(folder, manifest, number, task) for number in numbers]
    targets = [part.targets for part in parts if len(part.targets)]
    if not targets:
        empty = task.pseudo_label_schema(num_classes).empty_table()
        targets = [task.read_pseudo_labels(empty, num_classes, "soft", folder)]
    return PseudoLabels(
        np.concatenate([none, *(part.shard for part in parts)]),
        np.concatenate([none, *(part.row for part in parts)]),
        np.concatenate(targets),
    )


def read_pseudo_label_shard(
    folder: Path, manifest: Manifest, number: int, task: Any
) -> PseudoLabels:
    """Those of one shard of `folder`, whose manifest this is; raises DataError."""
    schema = pseudo_label_schema(folder, manifest, task)
    table = read_entry(folder, manifest.shards[number], schema.names)
    repeats = repeats_of(folder, check_schema(table, schema, folder))
    return PseudoLabels(
        np.repeat(table.column("shard").to_numpy(), repeats).astype(np.int64),
        np.repeat(table.column("row").to_numpy(), repeats).astype(np.int64),
        np.repeat(targets_of(folder, manifest, table, task), repeats, axis=0),
    )


def pseudo_label_schema(folder: Path, manifest: Manifest, task: Any) -> Any:
    """The Arrow schema of what training reads of the pseudo-labels in `folder`."""
    own = task.pseudo_label_schema(num_classes_of(folder, manifest))
    return pa.schema([*PLACE[1:], REPEATS, *own])


def repeats_of(folder: Path, table: Any) -> NDArray[np.int32]:
    """How often each row of a table of pseudo-labels counts: (n,); raises DataError."""
    return whole_numbers(table, REPEATS.name, MOST_REPEATS, folder)


def targets_of(folder: Path, manifest: Manifest, table: Any, task: Any) -> NDArray[Any]:
    """The target of each row of a table of pseudo-labels: (n, …); raises DataError."""
    num_classes, kind = num_classes_of(folder, manifest), label_kind_of(folder, manifest)
    targets: NDArray[Any] = task.read_pseudo_labels(table, num_classes, kind, folder)
    return targets


def label_kind_of(folder: Path, manifest: Manifest) -> str:
    """The form of the targets, "soft" or "hard", as the manifest of pseudo-labels says it."""
    kind = manifest.metadata.get("label_kind")
    if kind not in ("soft", "hard"):
        raise DataError(f"{folder}: its manifest does not say label_kind; run its stage again")
    return str(kind)


def num_classes_of(folder: Path, manifest: Manifest) -> int:
    """The number of classes that the manifest of predictions or pseudo-labels says."""
    number: Any = manifest.metadata.get("num_classes")
    if type(number) is not int or not 1 <= number <= MOST_CLASSES:
        raise DataError(f"{folder}: its manifest does not say num_classes; run its stage again")
    return number


def whole_numbers(table: Any, name: str, most: int, source: object) -> NDArray[np.int32]:
    """A column of whole numbers, each checked to be from 0 to `most`: (n,)."""
    values: NDArray[np.int32] = table.column(name).to_numpy()
    if len(values) and not 0 <= values.min() <= values.max() <= most:
        raise DataError(f"{source}: {name!r} must be 0 to {most} in every row")
    return values
