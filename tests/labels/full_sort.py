"""Selection as it is defined, by a sort of all predictions at once: what the passes must give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.predictions import read_predictions
from pipeline.labels.select import Reason, id_hashes
from pipeline.tasks.classification import TASK


def full_sort(
    labels: NDArray[np.int32],
    confidences: NDArray[np.float32],
    hashes: NDArray[np.uint64],
    *,
    num_classes: int,
    threshold: float,
    target: int | None,
    max_repeats: int,
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """How often each image counts, and why, (N,): by class, confidence, hash and place."""
    sure = confidences >= np.float32(threshold)
    repeats = sure.astype(np.int32)
    reasons = np.where(sure, Reason.KEPT, Reason.BELOW_THRESHOLD).astype(np.uint8)
    if target is None:
        return repeats, reasons
    rows = np.flatnonzero(sure)
    order = rows[np.lexsort((hashes[rows], -confidences[rows], labels[rows]))]
    counts = np.bincount(labels[order], minlength=num_classes)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    whole, rest = np.divmod(target, np.maximum(np.repeat(counts, counts), 1))
    repeats[order] = np.minimum(whole + (rank < rest), max_repeats)
    reasons[order] = np.where(rank < target, Reason.KEPT, Reason.OVER_CLASS_TARGET)
    return repeats, reasons


def full_sort_of(
    predictions: Path,
    num_classes: int,
    dropped: NDArray[np.bool_] | None = None,
    **rules: Any,
) -> tuple[list[int], list[str]]:
    """The same of a folder of predictions, all in memory; dropped: as if they weren't there."""
    shards = list(read_predictions(predictions, TASK))
    log_probs = np.concatenate([shard.values for shard in shards])
    hashes = id_hashes(name for shard in shards for name in shard.ids)
    labels = log_probs.argmax(axis=1).astype(np.int32)
    among = np.flatnonzero(~np.zeros(len(labels), np.bool_) if dropped is None else ~dropped)
    repeats = np.zeros(len(labels), np.int32)
    reasons = np.full(len(labels), Reason.STRANGER, np.uint8)
    repeats[among], reasons[among] = full_sort(
        labels[among],
        np.exp(log_probs.max(axis=1))[among],
        hashes[among],
        num_classes=num_classes,
        **rules,
    )
    return repeats.tolist(), [Reason(code).text for code in reasons.tolist()]
