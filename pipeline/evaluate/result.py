"""Everything measured of one model on one set of images, and its form in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.errors import DataError
from pipeline.evaluate import metrics
from pipeline.evaluate.metrics import CalibrationBin, Floats, Integers
from pipeline.evaluate.robustness import Robustness
from pipeline.evaluate.significance import PairedTest, accuracy_interval


@dataclass(frozen=True)
class Evaluation:
    """The figures of one model on `images` images; `low` and `high` bound the accuracy."""

    images: int
    accuracy: float
    low: float
    high: float
    top5: float | None
    nll: float
    ece: float
    per_class: tuple[float | None, ...]
    confusion: tuple[tuple[int, ...], ...]
    reliability: tuple[CalibrationBin, ...]


def evaluate(log_probs: Floats, labels: Integers, *, interval: float = 0.95) -> Evaluation:
    """Measure log-probabilities (N, K) against labels (N,); raises DataError as the metrics do."""
    right = metrics.correct(log_probs, labels)
    low, high = accuracy_interval(right, interval)
    confusion = metrics.confusion_matrix(log_probs, labels)
    return Evaluation(
        images=len(labels),
        accuracy=float(right.mean()),
        low=low,
        high=high,
        top5=metrics.top_k_accuracy(log_probs, labels),
        nll=metrics.negative_log_likelihood(log_probs, labels),
        ece=metrics.expected_calibration_error(log_probs, labels),
        per_class=tuple(metrics.per_class_accuracy(confusion)),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        reliability=tuple(metrics.calibration_bins(log_probs, labels)),
    )


def flat_metrics(
    test: Evaluation,
    *,
    centre: Evaluation | None = None,
    validation: Evaluation | None = None,
    against_teacher: PairedTest | None = None,
    knn_accuracy: float | None = None,
    robustness: Robustness | None = None,
) -> dict[str, float]:
    """The figures as DVC and MLflow take them: one number a key; what is unknown has no key.

    test: with the test-time views; centre: on the same images without them.
    """
    flat = {
        "test/accuracy": test.accuracy,
        "test/accuracy_low": test.low,
        "test/accuracy_high": test.high,
        "test/nll": test.nll,
        "test/ece": test.ece,
    }
    if test.top5 is not None:
        flat["test/top5"] = test.top5
    if knn_accuracy is not None:
        flat["test/knn_accuracy"] = knn_accuracy
    if robustness is not None:
        flat["test/corrupted_accuracy"] = robustness.mean_accuracy
        flat["test/mce"] = robustness.mean_corruption_error
    for name, part in (("test/centre", centre), ("val", validation)):
        if part is not None:
            flat |= {f"{name}/accuracy": part.accuracy, f"{name}/nll": part.nll}
            flat[f"{name}/ece"] = part.ece
    if against_teacher is not None:
        flat["test/gain"] = against_teacher.difference
        flat["test/gain_low"] = against_teacher.low
        flat["test/gain_high"] = against_teacher.high
        flat["test/gain_p_value"] = against_teacher.p_value
    return flat


def evaluation_to_json(evaluation: Evaluation) -> dict[str, Any]:
    """`evaluation` as a JSON value."""
    return asdict(evaluation)


def evaluation_from_json(value: Mapping[str, Any]) -> Evaluation:
    """The Evaluation that evaluation_to_json wrote; raises DataError for anything else."""
    try:
        fields = dict(value)
        fields["per_class"] = tuple(fields["per_class"])
        fields["confusion"] = tuple(tuple(row) for row in fields["confusion"])
        fields["reliability"] = tuple(CalibrationBin(**part) for part in fields["reliability"])
        return Evaluation(**fields)
    except (KeyError, TypeError) as error:
        raise DataError(f"not the figures of an evaluation: {error}") from None


def paired_from_json(value: Mapping[str, Any]) -> PairedTest:
    """The PairedTest whose fields are in `value`; raises DataError for anything else."""
    try:
        return PairedTest(**value)
    except TypeError as error:
        raise DataError(f"not a paired test: {error}") from None


def confusion_array(evaluation: Evaluation) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """The confusion counts as an array (K, K)."""
    return np.array(evaluation.confusion, dtype=np.int64)
