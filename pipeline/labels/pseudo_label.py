"""From a folder of predictions to a folder of pseudo-labels and its audit, a shard at a time.

One pass gathers what decides a selection, some 20 bytes a unit, from which the cuts are found;
another writes, shard by shard, what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.data.predictions import num_classes_of
from pipeline.data.shards import Manifest, read_labels, read_manifest, write_manifest
from pipeline.data.storage import StoredFolder
from pipeline.errors import DataError, SelectionError
from pipeline.labels.align import Shares, alignment_shift, pool_shares, row_stride
from pipeline.labels.audit import Audit, audit
from pipeline.labels.select import Candidates, Reason, find_cuts, select
from pipeline.labels.shard_selector import ShardSelector, Truth
from pipeline.labels.teaching import KEY
from pipeline.mapping import MapItems, in_threads
from pipeline.params import SelectParams
from pipeline.progress import progress
from pipeline.tasks import Task, noted
from pipeline.tasks.task import Choice

Made = TypeVar("Made")


def select_pseudo_labels(
    predictions: Path,
    out: Path,
    params: SelectParams,
    *,
    task: Task,
    classes: Sequence[str],
    labeled: Path,
    truth: Truth,
    taught: bool = False,
    stored: StoredFolder | None = None,
    map_items: MapItems | None = None,
    title: str = "select",
) -> Audit:
    """Write to `out`, for every prediction, whether it is kept, why, and its target.

    labeled: the prepared folder whose classes' shares predictions are aligned with; taught: whether
    the teacher has learnt from pseudo-labels, see estimate_shares; truth: where it is known; only
    the audit reads it. stored: where the shards go, `out` then takes their manifest
    alone. map_items: who works on the shards; the result is the same.
    Raises SelectionError where nothing is kept, DataError where a prediction is not a number or
    the predictions are not of `classes`.
    """
    manifest = read_manifest(predictions)
    _check_classes(predictions, manifest, classes)
    map_items = map_items or in_threads(1)

    def over(task: Callable[[int], Made]) -> Iterator[Made]:
        with progress(title, manifest.rows) as advance:
            results = map_items(task, range(len(manifest.shards)))
            for entry, result in zip(manifest.shards, results, strict=True):
                advance(entry.rows)
                yield result

    selector = ShardSelector(predictions, manifest, len(classes), params, task)
    shares = None
    if params.distribution_alignment != "none":
        label_counts = _label_counts(labeled, len(classes), params.distribution_alignment)
        selector, shares = _aligned(selector, label_counts, over, taught=taught)
    parts = list(over(partial(selector.candidates, truth=truth)))
    candidates = Candidates.joined([part for part, _, _ in parts])
    truths = np.concatenate([np.empty(0, np.int32), *(part for _, part, _ in parts)])
    strangers = [number for _, _, number in parts if number is not None]
    del parts
    cuts = find_cuts(candidates, classes, params, task)
    selection = select(candidates, cuts)
    _check_any(candidates, selection, params)
    figures = audit(
        candidates,
        selection,
        truths,
        cuts.thresholds,
        class_shares=shares,
        strangers=sum(strangers) if strangers else None,
    )
    del candidates, selection, truths
    write = partial(selector.write, cuts=cuts, out=out if stored is None else stored)
    entries = list(over(write))
    write_manifest(out, entries, _metadata(selector, taught=taught))
    return figures


def _metadata(selector: ShardSelector, *, taught: bool) -> dict[str, Any]:
    """What the manifest of pseudo-labels notes; with features how to make them again."""
    params, predictions = selector.params, selector.manifest
    metadata: dict[str, Any] = {
        "num_classes": selector.num_classes,
        "label_kind": params.label_kind,
        **noted(selector.task),
    }
    if KEY in predictions.metadata:  # see Teaching
        names = {"distribution_alignment", "label_kind", "temperature"}
        teaching = params.model_dump(include=names) | {"taught": taught}
        metadata[KEY] = dict(predictions.metadata[KEY]) | teaching
    return metadata


def _aligned(
    selector: ShardSelector,
    label_counts: NDArray[np.int64],
    over: Callable[[Callable[[int], Any]], Iterator[Any]],
    *,
    taught: bool,
) -> tuple[ShardSelector, Shares]:
    """The selector that aligns predictions with the classes' shares, and these, (K,)."""
    every = row_stride(selector.manifest.rows, selector.num_classes)
    parts = over(partial(selector.sample, every=every))
    log_probs = np.concatenate([np.empty((0, selector.num_classes), np.float32), *parts])
    kind = selector.params.distribution_alignment
    shares = pool_shares(kind, log_probs, label_counts, taught=taught)
    return replace(selector, shift=alignment_shift(log_probs, shares)), shares


def _label_counts(labeled: Path, num_classes: int, kind: str) -> NDArray[np.int64]:
    """The labelled images of each class, (K,); raises DataError where alignment lacks one."""
    if kind == "uniform":
        return np.ones(num_classes, np.int64)
    counts = np.bincount(read_labels(labeled), minlength=num_classes)
    if not counts.all():
        raise DataError(
            f"{labeled}: no labelled image of class number {int(counts.argmin())}, so "
            f"select.distribution_alignment = {kind} can't align with it; choose uniform or none"
        )
    return counts


def _check_any(candidates: Candidates, selection: Choice, params: SelectParams) -> None:
    """Raise SelectionError where there are images, but none is sure enough."""
    unsure = np.isin(selection.reasons, (Reason.BELOW_THRESHOLD, Reason.STRANGER))
    if not unsure.all() or not len(candidates):
        return
    if candidates.dropped.all():
        raise SelectionError(
            f"select.strangers = drop: all {len(candidates)} unlabelled images are strangers; "
            "keep them, or label images that are like them"
        )
    own = params.class_thresholds
    by_name = f" and class_thresholds = {own}" if own else ""
    surest = candidates.confidences[~candidates.dropped].max()
    raise SelectionError(
        f"select.confidence_threshold = {params.confidence_threshold}{by_name}: no prediction is "
        f"that sure (the surest has {surest:.3f}); lower it"
    )


def _check_classes(predictions: Path, manifest: Manifest, classes: Sequence[str]) -> None:
    num_classes = num_classes_of(predictions, manifest)
    if num_classes != len(classes):
        raise DataError(
            f"{predictions}: of {num_classes} classes, but there are {len(classes)}; "
            "run the stage pseudo_label again"
        )
