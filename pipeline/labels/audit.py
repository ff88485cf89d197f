"""What a selection is worth: how much it keeps, how balanced it is and, where known, how right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.labels.select import Candidates, Reason
from pipeline.tasks.task import Choice

HISTOGRAM_BINS = 20
HEADLINES = (
    "coverage",
    "class_imbalance",
    "classes_missing",
    "mean_confidence",
    "pseudo_label_accuracy",
    "prediction_accuracy",
    "kept",
    "repeated",
    "strangers",
)


@dataclass(frozen=True)
class Audit:
    """Figures of one selection; lists are by class, accuracies None where no truth is known.

    What it counts are the task's units, of images with many a sample. class_imbalance: the largest
    over the smallest class count among those kept (a class without any counts as 1); coverage:
    share of all that is kept; images: kept of each class; thresholds: the confidence that a class
    needed; histogram, kept_histogram: units by confidence in
    HISTOGRAM_BINS equal bins of [0, 1], all of them but dropped strangers, and those kept;
    class_shares: those that the predictions were aligned with, None where they were not; strangers:
    how many show none of the classes, whether they are dropped or not, None where nobody looked;
    the dropped ones are a reason.
    """

    coverage: float
    class_imbalance: float
    classes_missing: int
    mean_confidence: float
    pseudo_label_accuracy: float | None
    prediction_accuracy: float | None
    kept: int
    repeated: int
    reasons: dict[str, int]
    images: list[int]
    repeats: list[int]
    confidence: list[float | None]
    accuracy: list[float | None]
    thresholds: list[float]
    histogram: list[int]
    kept_histogram: list[int]
    class_shares: list[float] | None = None
    strangers: int | None = None


def audit(
    candidates: Candidates,
    selection: Choice,
    truth: NDArray[np.int32],
    thresholds: NDArray[np.float32],
    *,
    class_shares: NDArray[np.float64] | None = None,
    strangers: int | None = None,
) -> Audit:
    """The audit of a selection; truth: (N,) classes, -1 where unknown; the other arrays: (K,)."""
    labels, kept = candidates.labels, selection.repeats > 0
    reasons = np.bincount(selection.reasons, minlength=len(Reason)).tolist()
    known, right = truth >= 0, labels == truth

    def by_class(rows: NDArray[np.bool_], weights: NDArray[Any] | None = None) -> NDArray[Any]:
        some = None if weights is None else weights[rows]
        return np.bincount(labels[rows], some, minlength=len(thresholds))

    images, confidence = by_class(kept), by_class(kept, candidates.confidences)
    repeats = by_class(kept, selection.repeats).astype(np.int64)
    known_kept, right_kept = by_class(known & kept), by_class(right & kept)
    return Audit(
        coverage=_share(images.sum(), len(labels)) or 0.0,
        class_imbalance=float(images.max() / max(images.min(), 1)),
        classes_missing=int((images == 0).sum()),
        mean_confidence=_share(confidence.sum(), images.sum()) or 0.0,
        pseudo_label_accuracy=_share(right_kept.sum(), known_kept.sum()),
        prediction_accuracy=_share(right.sum(), known.sum()),
        kept=int(images.sum()),
        repeated=int(repeats.sum()),
        reasons={reason.text: reasons[reason] for reason in Reason},
        images=images.tolist(),
        repeats=repeats.tolist(),
        confidence=[_share(*both) for both in zip(confidence, images, strict=True)],
        accuracy=[_share(*both) for both in zip(right_kept, known_kept, strict=True)],
        thresholds=[round(float(value), 6) for value in thresholds],
        histogram=_histogram(candidates.confidences[~candidates.dropped]),
        kept_histogram=_histogram(candidates.confidences[kept]),
        class_shares=None if class_shares is None else np.round(class_shares, 6).tolist(),
        strangers=strangers,
    )


def audit_metrics(figures: Audit) -> dict[str, float]:
    """The audit's headline figures; what is not known is left out."""
    values = {name: getattr(figures, name) for name in HEADLINES}
    return {name: value for name, value in values.items() if value is not None}


def selection_table(figures: Audit, classes: Sequence[str]) -> dict[str, list[Any]]:
    """The selection by class, as `columns` and `data`: a row of values each."""
    columns = {
        "class": classes,
        "threshold": figures.thresholds,
        "kept": figures.images,
        "counted": figures.repeats,
        "mean_confidence": figures.confidence,
        "right": figures.accuracy,
    }
    rows = zip(*columns.values(), strict=True)
    return {"columns": list(columns), "data": [list(row) for row in rows]}


def _histogram(confidences: NDArray[np.float32]) -> list[int]:
    counts = np.histogram(confidences.astype(np.float64), HISTOGRAM_BINS, (0.0, 1.0))[0]
    return [int(count) for count in counts]


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None
