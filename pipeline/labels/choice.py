"""From what a teacher is surest of to a selection: thresholds by class, then balancing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.labels.select import Selection, class_target, select
from pipeline.labels.thresholds import fixed_thresholds, relative_thresholds


@dataclass(frozen=True)
class Choice:
    """A selection and the confidence that each class needed for it, thresholds: (K,)."""

    selection: Selection
    thresholds: NDArray[np.float32]


def choose(
    labels: NDArray[np.int32],
    confidences: NDArray[np.float32],
    tie_breakers: NDArray[np.uint64],
    *,
    classes: Sequence[str],
    confidence_threshold: float,
    class_thresholds: Mapping[str, float],
    threshold_kind: str,
    images_per_class: int | None,
    fraction_per_class: float | None,
    max_repeats: int,
) -> Choice:
    """Select among predictions of these labels and confidences, (N,), as `select` does.

    threshold_kind: "fixed", or "relative" (see relative_thresholds). The arguments are those of
    params.yaml's section `select`.
    """
    thresholds = fixed_thresholds(classes, confidence_threshold, class_thresholds)
    if threshold_kind == "relative":
        own = np.array([name in class_thresholds for name in classes])
        thresholds = relative_thresholds(labels, confidences, thresholds, own)
    selection = select(
        labels,
        confidences,
        tie_breakers,
        num_classes=len(classes),
        confidence_threshold=thresholds,
        images_per_class=class_target(
            len(labels), len(classes), images_per_class, fraction_per_class
        ),
        max_repeats=max_repeats,
    )
    return Choice(selection, thresholds)
