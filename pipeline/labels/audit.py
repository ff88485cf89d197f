"""What a selection is worth: how much it keeps, how balanced it is and, where known, how right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.labels.levels import level_confidences
from pipeline.labels.select import Counts, Cuts, Reason

HISTOGRAM_BINS = 20


@dataclass(frozen=True)
class Audit:
    """Figures of one selection; lists are by class, accuracies None where no truth is known.

    class_imbalance: the largest over the smallest class count among the kept images (a class
    without any counts as 1); coverage: share of the unlabelled images kept; thresholds: the
    confidence that a class needed; histogram, kept_histogram: images by confidence in
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


@dataclass(frozen=True)
class ByClass:
    """A selection in numbers, by class, (K,) each.

    images: all but dropped strangers; sure: those sure enough; kept: those that count; repeats: how
    often they count in all; confidence: the sum over those that count. Of all classes together, by
    confidence: histogram, kept_histogram, as in Audit.
    """

    images: Counts
    sure: Counts
    kept: Counts
    repeats: Counts
    confidence: NDArray[np.float64]
    histogram: Counts
    kept_histogram: Counts


@dataclass(frozen=True)
class Right:
    """How many predictions are right of those whose truth is known, by class, (K,) each."""

    known: Counts
    right: Counts
    known_kept: Counts
    right_kept: Counts

    @classmethod
    def none(cls, num_classes: int) -> Right:
        """Of no images."""
        return cls(*np.zeros((4, num_classes), np.int64))

    @classmethod
    def counted(
        cls,
        labels: NDArray[np.int32],
        truth: NDArray[np.int32],
        kept: NDArray[np.bool_],
        num_classes: int,
    ) -> Right:
        """Counted among some images, (n,); `truth` -1 where it is not known."""
        known = truth >= 0
        right = known & (labels == truth)
        chosen = (known, right, known & kept, right & kept)
        return cls(*(np.bincount(labels[rows], minlength=num_classes) for rows in chosen))

    def __add__(self, other: Right) -> Right:
        """Those of both."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Right(*(one + two for one, two in pairs))


@dataclass(frozen=True)
class Strangers:
    """How many images are strangers, None where nobody looked, and how many are dropped."""

    found: int | None = None
    dropped: int = 0

    def __add__(self, other: Strangers) -> Strangers:
        """Those of both."""
        known = [part for part in (self.found, other.found) if part is not None]
        return Strangers(sum(known) if known else None, self.dropped + other.dropped)


NO_STRANGERS = Strangers()


def by_class(counts: NDArray[np.uint32], cuts: Cuts) -> ByClass:
    """What `cuts` keep of predictions of which so many are of each class and level, (K, L)."""
    num_fewer = cuts.num_sure - cuts.num_more
    all_kept = cuts.fewer > 0
    confidences = level_confidences().astype(np.float64)
    sums, kept_at = [], np.zeros(counts.shape[1], np.int64)
    for row, last in zip(counts, np.where(all_kept, cuts.sure, cuts.surest).tolist(), strict=True):
        sums.append(float(row[:last] @ confidences[:last]))
        kept_at[:last] += row[:last]
    taken, level = np.where(all_kept, 0, cuts.taken), cuts.surest % len(confidences)
    np.add.at(kept_at, level, taken)
    return ByClass(
        images=counts.sum(axis=1, dtype=np.int64),
        sure=cuts.num_sure,
        kept=np.where(all_kept, cuts.num_sure, cuts.num_more),
        repeats=cuts.num_more * cuts.more + num_fewer * cuts.fewer,
        confidence=np.array(sums) + taken * confidences[level],
        histogram=_histogram(confidences, counts.sum(axis=0, dtype=np.int64)),
        kept_histogram=_histogram(confidences, kept_at),
    )


def audit(
    seen: ByClass,
    right: Right,
    thresholds: NDArray[np.float32],
    class_shares: NDArray[np.float64] | None = None,
    strangers: Strangers = NO_STRANGERS,
) -> Audit:
    """The audit of a selection; thresholds, class_shares: (K,)."""
    images, kept, sure = (int(part.sum()) for part in (seen.images, seen.kept, seen.sure))
    reasons = {
        Reason.KEPT: kept,
        Reason.BELOW_THRESHOLD: images - sure,
        Reason.OVER_CLASS_TARGET: sure - kept,
        Reason.STRANGER: strangers.dropped,
    }
    accuracies = zip(right.right_kept, right.known_kept, strict=True)
    return Audit(
        coverage=_share(kept, images + strangers.dropped) or 0.0,
        class_imbalance=float(seen.kept.max() / max(seen.kept.min(), 1)),
        classes_missing=int((seen.kept == 0).sum()),
        mean_confidence=_share(seen.confidence.sum(), kept) or 0.0,
        pseudo_label_accuracy=_share(right.right_kept.sum(), right.known_kept.sum()),
        prediction_accuracy=_share(right.right.sum(), right.known.sum()),
        kept=kept,
        repeated=int(seen.repeats.sum()),
        reasons={reason.text: number for reason, number in reasons.items()},
        images=seen.kept.tolist(),
        repeats=seen.repeats.tolist(),
        confidence=[_share(*both) for both in zip(seen.confidence, seen.kept, strict=True)],
        accuracy=[_share(*both) for both in accuracies],
        thresholds=[round(float(value), 6) for value in thresholds],
        histogram=seen.histogram.tolist(),
        kept_histogram=seen.kept_histogram.tolist(),
        class_shares=None if class_shares is None else np.round(class_shares, 6).tolist(),
        strangers=strangers.found,
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
        "strangers",
    )
    return {name: value for name in names if (value := getattr(figures, name)) is not None}


def selection_table(figures: Audit, classes: Sequence[str]) -> dict[str, list[Any]]:
    """The selection by class, as `columns` and `data`: a row of values each."""
    parts = (
        classes,
        figures.thresholds,
        figures.images,
        figures.repeats,
        figures.confidence,
        figures.accuracy,
    )
    names = ("class", "threshold", "kept", "counted", "mean_confidence", "right")
    return {"columns": list(names), "data": [list(row) for row in zip(*parts, strict=True)]}


def _histogram(confidences: NDArray[np.float64], counts: Counts) -> Counts:
    bins: Counts = np.histogram(confidences, HISTOGRAM_BINS, (0.0, 1.0), weights=counts)[0]
    return bins


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None
