"""From what a teacher is surest of to a selection: thresholds by class, then balancing."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ParameterError
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


Floats = NDArray[np.float32]
MOST_NAMED = 20


def check_class_names(
    classes: Sequence[str], named: Mapping[str, float], key: str = "select.class_thresholds"
) -> None:
    """Raise ParameterError where `named`, the parameter `key`, has a class that does not exist."""
    unknown = [name for name in named if name not in classes]
    if not unknown:
        return
    close = difflib.get_close_matches(unknown[0], classes, n=1)
    more = ", …" if len(classes) > MOST_NAMED else ""
    known = f"did you mean {close[0]!r}? " if close else ""
    raise ParameterError(
        f"{key}: no class is named {unknown[0]!r}; {known}there are "
        f"{', '.join(map(repr, classes[:MOST_NAMED]))}{more}"
    )


def fixed_thresholds(
    classes: Sequence[str], confidence_threshold: float, class_thresholds: Mapping[str, float]
) -> Floats:
    """The threshold of each class, (K,): its own where it is named, else the common one."""
    values = [class_thresholds.get(name, confidence_threshold) for name in classes]
    return np.array(values, np.float32)


def relative_thresholds(
    num_sure: NDArray[np.int64], thresholds: Floats, own: NDArray[np.bool_]
) -> Floats:
    """Thresholds (K,) lowered for classes of which fewer images are sure.

    num_sure: (K,) the images of each class over `thresholds`. A class's threshold times (that
    number / that of the class with most), after FlexMatch (Zhang et al. 2021, eq. 5 to 7, with a
    linear mapping): what a teacher has learnt less of is not held to the confidence of what it
    knows best. Classes in `own` (K,) keep theirs. Where no image is sure all do.
    """
    share = num_sure / num_sure.max() if num_sure.any() else np.ones(len(thresholds))
    lowered: Floats = np.where(own, thresholds, thresholds * share).astype(np.float32)
    return lowered
