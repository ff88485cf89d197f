"""Scores of predicted log-probabilities, and the temperature that calibrates them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
Flags = NDArray[np.bool_]

NO_IMAGES = "no labelled images to evaluate on; at least one is needed"
CALIBRATION_BINS = 15
ROWS_AT_ONCE = 1 << 16  # of which numbers of every class are in memory
# A float32 probability that underflows counts as this much, so that figures stay finite.
LEAST_LOG_PROB = float(np.log(np.finfo(np.float32).tiny))


@dataclass(frozen=True)
class CalibrationBin:
    """The images whose confidence falls between `low` and `high`; means are None where empty."""

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: float | None


def by_rows(work: Callable[..., NDArray[Any]], *arrays: NDArray[Any]) -> NDArray[Any]:
    """What `work` makes of ROWS_AT_ONCE rows of the arrays after others, (n, …) each, as one."""
    starts = range(0, max(len(arrays[0]), 1), ROWS_AT_ONCE)
    parts = [work(*(array[start : start + ROWS_AT_ONCE] for array in arrays)) for start in starts]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def check_predictions(log_probs: Floats, labels: Integers) -> None:
    """Refuse what no figure can be computed from.

    log_probs: (N, K), labels: (N,) in 0 … K-1, N ≥ 1. Raises DataError.
    """
    if log_probs.ndim != 2 or labels.shape != log_probs.shape[:1]:
        raise DataError(
            f"predictions of shape {log_probs.shape} do not fit labels of shape {labels.shape}; "
            "they must be (images, classes) and (images,)"
        )
    if labels.size == 0:
        raise DataError(NO_IMAGES)
    if wrong := int(by_rows(lambda part: np.isnan(part).any(axis=1), log_probs).sum()):
        raise DataError(f"{wrong} predictions hold NaN")
    if labels.min() < 0 or labels.max() >= log_probs.shape[1]:
        raise DataError(
            f"labels from {labels.min()} to {labels.max()} do not fit {log_probs.shape[1]} classes"
        )


def correct(log_probs: Floats, labels: Integers) -> Flags:
    """Whether the most probable class is the label, (N,); the first of equals counts."""
    check_predictions(log_probs, labels)
    right: Flags = log_probs.argmax(axis=1) == labels
    return right


def are_right(evidence: NDArray[Any]) -> Flags:
    """Whether the class predicted, (N, 2) with the true one, is that: (N,)."""
    return np.asarray(evidence[:, 0] == evidence[:, 1])


def top_k_accuracy(log_probs: Floats, labels: Integers, k: int = 5) -> float | None:
    """Share of the images whose label is among the k most probable; None where K ≤ k.

    Classes as probable as the label rank before it: ties are not to its advantage.
    """
    if log_probs.shape[1] <= k:
        return None

    def at_least(log_probs: Floats, labels: Integers) -> Integers:
        own = log_probs[np.arange(len(labels)), labels]
        return np.asarray((log_probs >= own[:, None]).sum(axis=1))

    return float((by_rows(at_least, log_probs, labels) <= k).mean())


def negative_log_likelihood(log_probs: Floats, labels: Integers) -> float:
    """Mean of -log p(label), in nats; probabilities under 1e-38 count as 1e-38."""
    check_predictions(log_probs, labels)
    own = log_probs[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.maximum(own, LEAST_LOG_PROB).mean())


def calibration_bins(
    log_probs: Floats, labels: Integers, bins: int = CALIBRATION_BINS
) -> list[CalibrationBin]:
    """The reliability curve: images by confidence, in bins (low, high] of equal width."""
    confidence = np.exp(log_probs.max(axis=1).astype(np.float64)).clip(0.0, 1.0)
    edges = np.arange(bins + 1) / bins
    place = np.searchsorted(edges[1:-1], confidence, side="left")
    images = np.bincount(place, minlength=bins)
    sums = (
        np.bincount(place, weights=values, minlength=bins)
        for values in (confidence, correct(log_probs, labels))
    )
    with np.errstate(invalid="ignore"):
        means = [(total / images).tolist() for total in sums]
    return [
        CalibrationBin(low, high, count, *(parts if count else (None, None)))
        for low, high, count, *parts in zip(
            edges[:-1].tolist(), edges[1:].tolist(), images.tolist(), *means, strict=True
        )
    ]


def expected_calibration_error(bins: Sequence[CalibrationBin]) -> float:
    """Mean gap between confidence and accuracy, weighted by images (Guo et al. 2017, eq. 3)."""
    gaps = [
        part.images * abs(part.confidence - part.accuracy)
        for part in bins
        if part.confidence is not None and part.accuracy is not None
    ]
    return float(sum(gaps) / sum(part.images for part in bins))


def confusion_matrix(log_probs: Floats, labels: Integers) -> NDArray[np.int64]:
    """Counts (K, K): row = true class, column = predicted class."""
    classes = log_probs.shape[1]
    flat = labels.astype(np.int64) * classes + log_probs.argmax(axis=1)
    return np.bincount(flat, minlength=classes**2).reshape(classes, classes).astype(np.int64)


LOWEST, HIGHEST = 0.05, 20.0
# Standard deviation of the prior on log T: T is expected within a factor e of 1 (two deviations).
PRIOR_DEVIATION = 0.5


def fit_temperature(
    logits: Floats, labels: Integers, *, prior_deviation: float = PRIOR_DEVIATION
) -> float:
    """The temperature T that makes softmax(logits / T) most likely (Guo et al. 2017, sec. 4.2).

    logits: (N, K), or log-probabilities; labels: (N,). A normal prior around log T = 0 is worth
    about as much as a few images: it decides where there are ten images, all right (the
    likelihood alone would say T → 0), and vanishes among hundreds. 1.0 where there are none.
    Raises DataError for labels that do not fit.
    """
    from scipy.optimize import minimize_scalar

    if len(labels) == 0:
        return 1.0
    check_predictions(logits, labels)
    scores = np.asarray(logits, dtype=np.float64)
    scores = scores - scores[np.arange(len(labels)), labels][:, None]

    def loss(log_temperature: float) -> float:
        surprise = _log_sum_exp(scores / math.exp(log_temperature)).sum()
        return float(surprise + 0.5 * (log_temperature / prior_deviation) ** 2)

    bounds = (math.log(LOWEST), math.log(HIGHEST))
    minimum = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(math.exp(minimum.x))


def apply_temperature(logits: Floats, temperature: float) -> Floats:
    """log softmax(logits / temperature), (N, K) in the type of `logits`."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    result: Floats = (scaled - _log_sum_exp(scaled)[:, None]).astype(logits.dtype)
    return result


def _log_sum_exp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    highest = values.max(axis=1, keepdims=True)
    total: NDArray[np.float64] = np.log(np.exp(values - highest).sum(axis=1)) + highest[:, 0]
    return total
