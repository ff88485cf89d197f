"""What a teacher thought of the unlabelled images, and which of that became pseudo-labels: schemas.

Both are folders of shards, one for each shard of unlabelled images, row by row in its order; the
manifest's metadata says the number of classes and, of pseudo-labels, the form of the target. The
columns here are those of every task; beside them stand a task's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.data.rows import read_rows
from pipeline.data.shards import Manifest, check_schema, read_entry, read_manifest
from pipeline.errors import DataError

Array = NDArray[Any]

MOST_CLASSES = 100_000
MOST_REPEATS = 1000
PLACE = (
    pa.field("id", pa.string(), nullable=False),
    pa.field("shard", pa.int32(), nullable=False),
    pa.field("row", pa.int32(), nullable=False),
)
STRANGER = pa.field("stranger", pa.bool_(), nullable=False)  # only where a stage looked for them
REPEATS = pa.field("repeats", pa.int32(), nullable=False)


class TaskColumns(Protocol):
    """How a task packs predictions and pseudo-labels into columns; see pipeline.tasks.task."""

    def prediction_schema(self, num_classes: int) -> Any:
        """Of predictions."""

    def read_predictions(self, table: Any, num_classes: int, source: object) -> Array:
        """(n, …)."""

    def pseudo_label_schema(self, num_classes: int) -> Any:
        """Of what training reads of pseudo-labels."""

    def read_pseudo_labels(
        self, table: Any, num_classes: int, label_kind: str, source: object
    ) -> Array:
        """(n, …)."""


@dataclass(frozen=True)
class Predictions:
    """One shard's: ids (n,), shard and row (n,) int32, values (n, …) as the task has them.

    strangers: (n,) whether an image shows none of the classes, None where nobody looked.
    """

    ids: list[str]
    shard: NDArray[np.int32]
    row: NDArray[np.int32]
    values: Array
    strangers: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class PseudoLabels:
    """The images that count, each as often as it counts, in the order of the shards.

    shard, row: (R,) int64, the place of the image; targets: (R, …) as the task has them.
    """

    shard: NDArray[np.int64]
    row: NDArray[np.int64]
    targets: Array


def predictions_table(
    ids: Sequence[str],
    shard: int,
    columns: Mapping[str, Any],
    precision: Sequence[str] = ("float32",),
    strangers: NDArray[np.bool_] | None = None,
) -> Any:
    """A shard of predictions as a `pyarrow.Table`; columns: those that the task makes of them.

    precision: in which number format each model computed; noted in the file's metadata. strangers:
    (n,) whether an image shows none of the classes; None where nobody looked.
    """
    rows = len(ids)
    table = pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "shard": pa.array(np.full(rows, shard, np.int32)),
            "row": pa.array(np.arange(rows, dtype=np.int32)),
            **columns,
        }
    )
    if strangers is not None:
        table = table.append_column(STRANGER, pa.array(strangers, pa.bool_()))
    return table.replace_schema_metadata({"precision": ", ".join(precision)})


def read_predictions(
    folder: Path, task: TaskColumns, at_once: int | None = None
) -> Iterator[Predictions]:
    """The predictions of each shard of `folder`, or of so many of its images at once, in order;
    raises DataError."""
    manifest = read_manifest(folder)
    for number in range(len(manifest.shards)):
        yield from _read_parts(folder, manifest, number, task, at_once)


def read_prediction_shard(
    folder: Path, manifest: Manifest, number: int, task: TaskColumns
) -> Predictions:
    """The predictions of one shard of `folder`, whose manifest this is; raises DataError."""
    return next(_read_parts(folder, manifest, number, task, None))


def _read_parts(
    folder: Path, manifest: Manifest, number: int, task: TaskColumns, at_once: int | None
) -> Iterator[Predictions]:
    num_classes = num_classes_of(folder, manifest)
    schema = pa.schema([*PLACE, *task.prediction_schema(num_classes)])
    table = read_entry(folder, manifest.shards[number], schema.names, [STRANGER.name])
    check_schema(table, schema, folder)
    rows = at_once or max(1, len(table))
    for part in (table.slice(start, rows) for start in range(0, max(1, len(table)), rows)):
        yield Predictions(
            ids=part.column("id").to_pylist(),
            shard=part.column("shard").to_numpy(),
            row=part.column("row").to_numpy(),
            values=task.read_predictions(part, num_classes, folder),
            strangers=strangers_of(part, folder),
        )


def strangers_of(table: Any, folder: Path) -> NDArray[np.bool_] | None:
    """Which rows of a table of predictions are strangers, (n,); None where nobody looked.

    Raises DataError for a column of another kind.
    """
    if STRANGER.name not in table.schema.names:
        return None
    check_schema(table, pa.schema([STRANGER]), folder)
    return np.asarray(table.column(STRANGER.name).to_numpy(), np.bool_)


def read_some_predictions(folder: Path, rows: Sequence[int], task: TaskColumns) -> Array:
    """Predictions (n, …) of some rows, counted over all shards, of the folder of them."""
    num_classes = num_classes_of(folder, read_manifest(folder))
    schema = task.prediction_schema(num_classes)
    return task.read_predictions(read_rows(folder, rows, schema.names), num_classes, folder)


def pseudo_labels_table(
    place: Any,
    labels: NDArray[np.int32],
    confidences: NDArray[np.float32],
    repeats: NDArray[np.int32],
    reasons: Any,
    columns: Mapping[str, Any],
) -> Any:
    """A shard of pseudo-labels: every image, kept or not, with the reason; all arrays (n,).

    place: the table of predictions, of which id, shard and row are taken; reasons: an Arrow array
    of text; columns: those that the task makes of what is kept.
    """
    return pa.table(
        {item.name: place.column(item.name).combine_chunks() for item in PLACE}
        | {
            "label": pa.array(labels.astype(np.int32)),
            "confidence": pa.array(confidences.astype(np.float32)),
            "repeats": pa.array(repeats.astype(np.int32)),
            "reason": reasons,
        }
        | dict(columns)
    )


def read_pseudo_labels(folder: Path, task: TaskColumns) -> PseudoLabels:
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
    folder: Path, manifest: Manifest, number: int, task: TaskColumns
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


def pseudo_label_schema(folder: Path, manifest: Manifest, task: TaskColumns) -> Any:
    """The Arrow schema of what training reads of the pseudo-labels in `folder`."""
    own = task.pseudo_label_schema(num_classes_of(folder, manifest))
    return pa.schema([*PLACE[1:], REPEATS, *own])


def repeats_of(folder: Path, table: Any) -> NDArray[np.int32]:
    """How often each row of a table of pseudo-labels counts: (n,); raises DataError."""
    return whole_numbers(table, REPEATS.name, MOST_REPEATS, folder)


def targets_of(folder: Path, manifest: Manifest, table: Any, task: TaskColumns) -> Array:
    """The target of each row of a table of pseudo-labels: (n, …); raises DataError."""
    num_classes, kind = num_classes_of(folder, manifest), label_kind_of(folder, manifest)
    return task.read_pseudo_labels(table, num_classes, kind, folder)


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
