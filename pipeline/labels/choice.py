"""From what a teacher is surest of to a selection: thresholds by class, then balancing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.labels.levels import count_levels, levels_of, no_counts
from pipeline.labels.select import (
    Cuts,
    Selection,
    class_target,
    cut_levels,
    num_below,
    select,
    sure_levels,
    tied_rows,
)
from pipeline.labels.thresholds import fixed_thresholds, relative_thresholds
from pipeline.labels.ties import LastTaken, in_window, last_taken, widest_window


@dataclass(frozen=True)
class Choice:
    """Where each class is cut, and the confidence that it needed for it, thresholds: (K,)."""

    cuts: Cuts
    thresholds: NDArray[np.float32]


def choose(
    counts: NDArray[np.uint32],
    *,
    classes: Sequence[str],
    confidence_threshold: float,
    class_thresholds: Mapping[str, float],
    threshold_kind: str,
    images_per_class: int | None,
    fraction_per_class: float | None,
    max_repeats: int,
) -> Choice:
    """Select among predictions of which so many are of each class and level, counts: (K, L).

    threshold_kind: "fixed", or "relative" (see relative_thresholds). The arguments are those of
    params.yaml's section `select`.
    """
    thresholds = fixed_thresholds(classes, confidence_threshold, class_thresholds)
    if threshold_kind == "relative":
        own = np.array([name in class_thresholds for name in classes])
        sure = num_below(counts, sure_levels(thresholds))
        thresholds = relative_thresholds(sure, thresholds, own)
    target = class_target(
        int(counts.sum(dtype=np.int64)), len(classes), images_per_class, fraction_per_class
    )
    cuts = cut_levels(counts, thresholds, images_per_class=target, max_repeats=max_repeats)
    return Choice(cuts, thresholds)


def choose_rows(
    labels: NDArray[np.int32],
    confidences: NDArray[np.float32],
    hashes: NDArray[np.uint64],
    *,
    classes: Sequence[str],
    **rules: Any,
) -> Selection:
    """Select among predictions in memory: labels, confidences, and hashes of their ids, (N,) each.

    Confidences count in the precision of stored ones. rules: the other arguments of `choose`.
    """
    num_classes = len(classes)
    with np.errstate(divide="ignore"):
        levels = levels_of(np.log(confidences).astype(np.float16))
    counts = no_counts(num_classes)
    places, numbers = count_levels(labels, levels)
    counts.reshape(-1)[places] = numbers
    cuts = choose(counts, classes=classes, **rules).cuts
    rows = tied_rows(labels, levels, cuts)
    some = (labels[rows], hashes[rows], rows)
    last = last_taken([in_window(*some, widest_window(num_classes))], cuts)
    taken = np.zeros(len(labels), np.bool_)
    taken[rows] = (last or LastTaken.none(num_classes)).takes(*some)
    return select(labels, levels, taken, cuts)
