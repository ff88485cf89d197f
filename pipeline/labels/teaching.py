"""How a teacher's predictions become targets: written beside them, so that it can be done again.

A student that is cross-validated needs for each fold the pseudo-labels of a teacher that had not
seen that fold either: the same teaching, by the heads of the teacher's own folds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter

from pipeline.data.distributions import sharpen
from pipeline.data.predictions import num_classes_of, predictions_table, read_predictions
from pipeline.data.shards import Manifest, read_entry, read_manifest, write_shard
from pipeline.errors import DataError
from pipeline.labels.align import Floats, aligned, alignment_shift, pool_shares
from pipeline.labels.propagate import FeatureRows, combine_with_neighbors, propagate_labels
from pipeline.params import PropagationParams
from pipeline.tasks.classification import TASK

KEY = "teaching"  # in the manifest of predictions and of pseudo-labels


@dataclass(frozen=True)
class Teaching:
    """The parameters of the same names in the sections `predict` and `select`; taught: whether the
    teacher was taught by pseudo-labels too."""

    propagation: PropagationParams | None = None
    distribution_alignment: str = "none"
    label_kind: str = "soft"
    temperature: Annotated[float, Field(gt=0)] = 1.0
    taught: bool = False
    __pydantic_config__: ClassVar = ConfigDict(strict=True, extra="forbid")

    def noted(self) -> dict[str, Any]:
        """What the manifest of pseudo-labels notes."""
        propagation = self.propagation and self.propagation.model_dump(mode="json")
        return {KEY: vars(self) | {"propagation": propagation}}


_FROM_JSON = TypeAdapter(Teaching)


def read_teaching(folder: Path, manifest: Manifest) -> Teaching:
    """What the manifest of the pseudo-labels in `folder` notes; raises DataError."""
    try:
        return _FROM_JSON.validate_json(json.dumps(manifest.metadata[KEY]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder}: not as select writes it ({error}); run select again") from None


def targets_of_teacher(
    log_probs: Floats,
    teaching: Teaching,
    *,
    features: NDArray[Any],
    labeled_features: NDArray[Any],
    labels: NDArray[np.int64],
) -> Floats:
    """The targets (M, K) that a teacher's predictions (M, K) of unlabelled images become.

    features: (M, F) of these images; labeled_features: (N, F), labels: (N,) of those that the
    teacher knows.
    """
    log_probs = refined_log_probs(
        log_probs, teaching, features=features, labeled_features=labeled_features, labels=labels
    )
    return targets_of(log_probs, teaching)


def refined_log_probs(
    log_probs: Floats,
    teaching: Teaching,
    *,
    features: NDArray[Any] | None,
    labeled_features: NDArray[Any] | None,
    labels: NDArray[np.int64],
    threads: int = 1,
) -> Floats:
    """A teacher's predictions (M, K) with what neighbours say, moved to the classes' shares.

    Arguments as those of `targets_of_teacher`; without propagation no features are needed.
    """
    counts = np.bincount(labels, minlength=log_probs.shape[1])
    if teaching.propagation is not None:
        assert features is not None
        assert labeled_features is not None
        log_probs = combine_with_neighbors(
            log_probs, labeled_features, labels, features, teaching.propagation, threads=threads
        )
    if teaching.distribution_alignment != "none":
        kind = teaching.distribution_alignment
        shares = pool_shares(kind, log_probs, counts, taught=teaching.taught)
        log_probs = aligned(log_probs, alignment_shift(log_probs, shares))
    return log_probs


def refine_predictions(
    predictions: Path,
    out: Path,
    *,
    features: FeatureRows | None,
    labeled_features: FeatureRows | None,
    labels: NDArray[np.int64],
    propagation: PropagationParams | None,
    strangers: NDArray[np.bool_] | None,
    threads: int = 1,
) -> None:
    """Write the predictions of the folder `predictions` to `out`, shard for shard, refined; one
    shard in memory.

    features: (M, F) of the predicted images, labeled_features: (N, F), labels: (N,); where there is
    `propagation` the predictions are combined with what neighbours say in these. strangers: (M,)
    which images show none of the classes, None where nobody looked. Raises DataError.
    """
    manifest, passed, start = read_manifest(predictions), None, 0
    if propagation is not None and features is not None and labeled_features is not None:
        num_classes = num_classes_of(predictions, manifest)
        passed = propagate_labels(
            labeled_features, labels, features, num_classes, propagation, threads=threads
        )
    shards = zip(manifest.shards, read_predictions(predictions, TASK), strict=True)
    for number, (entry, shard) in enumerate(shards):
        rows = np.arange(start, start + len(shard.ids))
        start += len(shard.ids)
        log_probs = shard.values
        if passed is not None and features is not None:
            log_probs = passed.combined(log_probs, rows, features)
        metadata = read_entry(predictions, entry, ["id"]).schema.metadata
        precision = metadata[b"precision"].decode().split(", ")
        marked = None if strangers is None else strangers[rows]
        columns = TASK.prediction_columns(log_probs)
        table = predictions_table(shard.ids, number, columns, precision, marked)
        write_shard(out / entry.file, table)


def targets_of(log_probs: Floats, teaching: Teaching) -> Floats:
    """The targets (M, K) that refined predictions (M, K) become: one-hot, or sharpened."""
    if teaching.label_kind == "hard":
        hard: Floats = np.eye(log_probs.shape[1], dtype=np.float32)[log_probs.argmax(axis=1)]
        return hard
    return sharpen(np.exp(log_probs), teaching.temperature)
