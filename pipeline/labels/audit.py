"""What a selection is worth: how much it keeps, how balanced it is and, where known, how right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.labels.select import Reason, Selection


@dataclass(frozen=True)
class Audit:
    """Figures of one selection; lists are by class, accuracies None where no truth is known.

    class_imbalance: the largest over the smallest class count among the kept images (a class
    without any counts as 1); coverage: share of the unlabelled images kept; thresholds: the
    confidence that a class needed.
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


def audit(
    labels: NDArray[np.int32],
    confidences: NDArray[np.float32],
    selection: Selection,
    truth: NDArray[np.int32],
    *,
    num_classes: int,
    thresholds: NDArray[np.float32],
) -> Audit:
    """The audit of `selection`; arrays (N,), `truth` -1 where not known; thresholds: (K,)."""
    kept = selection.repeats > 0
    images = np.bincount(labels[kept], minlength=num_classes)
    repeats = np.bincount(labels, weights=selection.repeats, minlength=num_classes)
    by_class = [kept & (labels == label) for label in range(num_classes)]
    return Audit(
        coverage=float(kept.mean()) if len(kept) else 0.0,
        class_imbalance=float(images.max() / max(images.min(), 1)),
        classes_missing=int((images == 0).sum()),
        mean_confidence=_mean(confidences, kept) or 0.0,
        pseudo_label_accuracy=_accuracy(labels, truth, kept),
        prediction_accuracy=_accuracy(labels, truth, np.ones_like(kept)),
        kept=int(kept.sum()),
        repeated=int(selection.repeats.sum()),
        reasons={reason.text: int((selection.reasons == reason).sum()) for reason in Reason},
        images=images.tolist(),
        repeats=repeats.astype(int).tolist(),
        confidence=[_mean(confidences, rows) for rows in by_class],
        accuracy=[_accuracy(labels, truth, rows) for rows in by_class],
        thresholds=[round(float(value), 6) for value in thresholds],
    )


def audit_metrics(figures: Audit) -> dict[str, float]:
    """The audit's headline figures; what is not known is left out."""
    names = (
        "coverage",
        "class_imbalance",
        "classes_missing",
        "mean_confidence",
        "pseudo_label_accuracy",
        "prediction_accuracy",
        "kept",
        "repeated",
    )
    return {name: value for name in names if (value := getattr(figures, name)) is not None}


def _mean(values: NDArray[np.float32], rows: NDArray[np.bool_]) -> float | None:
    return float(values[rows].mean(dtype=np.float64)) if rows.any() else None


def _accuracy(
    labels: NDArray[np.int32], truth: NDArray[np.int32], rows: NDArray[np.bool_]
) -> float | None:
    known = rows & (truth >= 0)
    return float((labels[known] == truth[known]).mean()) if known.any() else None
