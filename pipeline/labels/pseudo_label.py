"""From a folder of predictions to a folder of pseudo-labels and its audit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.predictions import Predictions, pseudo_labels_table, read_predictions
from pipeline.data.shards import Manifest, read_manifest, write_manifest, write_shard
from pipeline.errors import DataError, SelectionError
from pipeline.labels.audit import Audit, audit
from pipeline.labels.select import Reason, class_target, select, sharpen


def select_pseudo_labels(
    predictions: Path,
    out: Path,
    *,
    confidence_threshold: float,
    images_per_class: int | None,
    fraction_per_class: float | None,
    max_repeats: int,
    label_kind: str,
    temperature: float,
    truth: Mapping[str, int],
) -> Audit:
    """Write to `out`, for every prediction, whether it is kept, why, and its target.

    `truth`: labels by id where they are known; only the audit reads it. Raises SelectionError
    where nothing is kept, DataError where a prediction is not a number.
    """
    manifest = read_manifest(predictions)
    num_classes = _num_classes(predictions, manifest)
    labels, confidences, ties, truths = _outlines(predictions, manifest.rows, truth)
    target = class_target(manifest.rows, num_classes, images_per_class, fraction_per_class)
    selection = select(
        labels,
        confidences,
        ties,
        num_classes=num_classes,
        confidence_threshold=confidence_threshold,
        images_per_class=target,
        max_repeats=max_repeats,
    )
    if manifest.rows and not selection.repeats.any():
        raise SelectionError(
            f"select.confidence_threshold = {confidence_threshold}: no prediction is that sure "
            f"(the surest has {confidences.max():.3f}); lower it"
        )
    entries, start = [], 0
    for entry, shard in zip(manifest.shards, read_predictions(predictions), strict=True):
        rows = slice(start, start := start + entry.rows)
        table = pseudo_labels_table(
            shard,
            labels[rows],
            confidences[rows],
            selection.repeats[rows],
            [Reason(code).text for code in selection.reasons[rows].tolist()],
            sharpen(np.exp(shard.log_probs), temperature),
        )
        entries.append(write_shard(out / entry.file, table))
    write_manifest(out, entries, {"num_classes": num_classes, "label_kind": label_kind})
    return audit(labels, confidences, selection, truths, num_classes=num_classes)


def _outlines(
    predictions: Path, count: int, truth: Mapping[str, int]
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.uint64], NDArray[np.int32]]:
    """What selection needs of each prediction: label, confidence, tie breaker; and its truth."""
    labels = np.empty(count, np.int32)
    confidences = np.empty(count, np.float32)
    ties = np.empty(count, np.uint64)
    truths = np.empty(count, np.int32)
    start = 0
    shard: Predictions
    for shard in read_predictions(predictions):
        rows = slice(start, start := start + len(shard.ids))
        surest = shard.log_probs.max(axis=1)
        _check_numbers(predictions, shard, surest)
        labels[rows] = shard.log_probs.argmax(axis=1)
        confidences[rows] = np.exp(surest)
        ties[rows] = [tie_breaker(identity) for identity in shard.ids]
        truths[rows] = [truth.get(identity, -1) for identity in shard.ids]
    return labels, confidences, ties, truths


def _check_numbers(predictions: Path, shard: Predictions, surest: NDArray[np.float32]) -> None:
    """Refuse what is no probability; `surest`: each row's maximum, which a NaN makes NaN."""
    if wrong := [shard.ids[row] for row in np.flatnonzero(~np.isfinite(surest))]:
        raise DataError(
            f"{predictions}: {len(wrong)} predictions are not numbers, the first of image "
            f"{wrong[0]!r}; the teacher is unusable, train it anew"
        )


def _num_classes(predictions: Path, manifest: Manifest) -> int:
    num_classes = manifest.metadata.get("num_classes")
    if type(num_classes) is not int:
        raise DataError(f"{predictions}: its manifest does not say num_classes")
    return num_classes


def tie_breaker(identity: str) -> int:
    """A 64-bit number that only the image's id decides."""
    return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8).digest(), "little")
