"""From a folder of predictions to a folder of pseudo-labels and its audit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.predictions import Predictions, pseudo_labels_table, read_predictions
from pipeline.data.shards import (
    Manifest,
    ShardEntry,
    iter_shards,
    read_manifest,
    write_manifest,
    write_shard,
)
from pipeline.errors import DataError, SelectionError
from pipeline.labels.align import aligned, alignment_shift, evenly_drawn
from pipeline.labels.audit import Audit, audit
from pipeline.labels.choice import Choice, choose
from pipeline.labels.select import Reason, sharpen


@dataclass(frozen=True)
class Outlines:
    """What a choice needs of each prediction, (N,) each, and what only the audit may see."""

    labels: NDArray[np.int32]
    confidences: NDArray[np.float32]
    ties: NDArray[np.uint64]
    truths: NDArray[np.int32]


def select_pseudo_labels(
    predictions: Path,
    out: Path,
    *,
    classes: Sequence[str],
    confidence_threshold: float,
    class_thresholds: Mapping[str, float],
    threshold_kind: str,
    images_per_class: int | None,
    fraction_per_class: float | None,
    max_repeats: int,
    label_kind: str,
    temperature: float,
    target_shares: NDArray[np.float64] | None,
    truth: Mapping[str, int],
) -> Audit:
    """Write to `out`, for every prediction, whether it is kept, why, and its target.

    target_shares: (K,) the shares of the classes that the predictions are aligned with before
    anything is chosen, None to take them as they are. `truth`: labels by id where they are known;
    only the audit reads it. Raises SelectionError where nothing is kept, DataError where a
    prediction is not a number or the predictions are not of `classes`.
    """
    manifest = read_manifest(predictions)
    _check_classes(predictions, manifest, classes)
    shift = None
    if target_shares is not None:
        shards = (shard.log_probs for shard in _checked(predictions))
        drawn = evenly_drawn(shards, manifest.rows, len(classes))
        shift = alignment_shift(drawn, target_shares)
    seen = _outlines(_checked(predictions, shift), manifest.rows, truth)
    choice = choose(
        seen.labels,
        seen.confidences,
        seen.ties,
        classes=classes,
        confidence_threshold=confidence_threshold,
        class_thresholds=class_thresholds,
        threshold_kind=threshold_kind,
        images_per_class=images_per_class,
        fraction_per_class=fraction_per_class,
        max_repeats=max_repeats,
    )
    _check_any(seen, choice, confidence_threshold, class_thresholds)
    entries = _write(_checked(predictions, shift), manifest, out, seen, choice, temperature)
    write_manifest(out, entries, {"num_classes": len(classes), "label_kind": label_kind})
    return audit(
        seen.labels,
        seen.confidences,
        choice.selection,
        seen.truths,
        num_classes=len(classes),
        thresholds=choice.thresholds,
    )


def target_shares(kind: str, labeled: Path, num_classes: int) -> NDArray[np.float64] | None:
    """The shares (K,) that select.distribution_alignment = `kind` aligns with; None for "none".

    "labeled": of the classes among the images of `labeled`. Raises DataError where one has none.
    """
    if kind == "none":
        return None
    if kind == "uniform":
        return np.full(num_classes, 1 / num_classes)
    counts = np.zeros(num_classes, np.int64)
    for table in iter_shards(labeled, ["label"]):
        counts += np.bincount(table.column("label").to_numpy(), minlength=num_classes)
    if not counts.all():
        raise DataError(
            f"{labeled}: no labelled image of class number {int(counts.argmin())}, so "
            "select.distribution_alignment = labeled can't align with it; choose uniform or none"
        )
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares


def tie_breaker(identity: str) -> int:
    """A 64-bit number that only the image's id decides."""
    return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8).digest(), "little")


def _checked(predictions: Path, shift: NDArray[np.float64] | None = None) -> Iterator[Predictions]:
    """The predictions shard by shard, refused where they are no numbers, aligned by `shift`."""
    for shard in read_predictions(predictions):
        surest = shard.log_probs.max(axis=1)  # NaN where one is
        if wrong := [shard.ids[row] for row in np.flatnonzero(~np.isfinite(surest))]:
            raise DataError(
                f"{predictions}: {len(wrong)} predictions are not numbers, the first of image "
                f"{wrong[0]!r}; the teacher is unusable, train it anew"
            )
        if shift is None:
            yield shard
        else:
            yield replace(shard, log_probs=aligned(shard.log_probs, shift))


def _outlines(shards: Iterable[Predictions], count: int, truth: Mapping[str, int]) -> Outlines:
    seen = Outlines(
        np.empty(count, np.int32),
        np.empty(count, np.float32),
        np.empty(count, np.uint64),
        np.empty(count, np.int32),
    )
    start = 0
    for shard in shards:
        rows = slice(start, start := start + len(shard.ids))
        seen.labels[rows] = shard.log_probs.argmax(axis=1)
        seen.confidences[rows] = np.exp(shard.log_probs.max(axis=1))
        seen.ties[rows] = [tie_breaker(identity) for identity in shard.ids]
        seen.truths[rows] = [truth.get(identity, -1) for identity in shard.ids]
    return seen


def _write(
    shards: Iterable[Predictions],
    manifest: Manifest,
    out: Path,
    seen: Outlines,
    choice: Choice,
    temperature: float,
) -> list[ShardEntry]:
    """Write a shard of pseudo-labels for each shard of predictions."""
    entries, start = [], 0
    for entry, shard in zip(manifest.shards, shards, strict=True):
        rows = slice(start, start := start + entry.rows)
        table = pseudo_labels_table(
            shard,
            seen.labels[rows],
            seen.confidences[rows],
            choice.selection.repeats[rows],
            [Reason(code).text for code in choice.selection.reasons[rows].tolist()],
            sharpen(np.exp(shard.log_probs), temperature),
        )
        entries.append(write_shard(out / entry.file, table))
    return entries


def _check_any(
    seen: Outlines,
    choice: Choice,
    confidence_threshold: float,
    class_thresholds: Mapping[str, float],
) -> None:
    if len(seen.labels) and not choice.selection.repeats.any():
        by_class = f" and class_thresholds = {dict(class_thresholds)}" if class_thresholds else ""
        raise SelectionError(
            f"select.confidence_threshold = {confidence_threshold}{by_class}: no prediction is "
            f"that sure (the surest has {seen.confidences.max():.3f}); lower it"
        )


def _check_classes(predictions: Path, manifest: Manifest, classes: Sequence[str]) -> None:
    num_classes = manifest.metadata.get("num_classes")
    if type(num_classes) is not int:
        raise DataError(f"{predictions}: its manifest does not say num_classes")
    if num_classes != len(classes):
        raise DataError(
            f"{predictions}: of {num_classes} classes, but there are {len(classes)}; "
            "run the stage pseudo_label again"
        )
