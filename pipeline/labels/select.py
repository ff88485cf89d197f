"""Choose which predictions become pseudo-labels: by confidence, and balanced over the classes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Reason(IntEnum):
    """Why an image is or is not among the pseudo-labels."""

    KEPT = 0
    BELOW_THRESHOLD = 1  # its confidence is under its class's threshold
    OVER_CLASS_TARGET = 2  # surer images of its class already fill images_per_class

    @property
    def text(self) -> str:
        """The reason as it is written to the pseudo-labels."""
        return self.name.lower()


@dataclass(frozen=True)
class Selection:
    """For each image, how often it counts (0: not at all) and why; both (N,)."""

    repeats: NDArray[np.int32]
    reasons: NDArray[np.uint8]


def select(
    labels: NDArray[np.int32],
    confidences: NDArray[np.float32],
    tie_breakers: NDArray[np.uint64],
    *,
    num_classes: int,
    confidence_threshold: float | NDArray[np.float32],
    images_per_class: int | None,
    max_repeats: int,
) -> Selection:
    """Keep the surest `images_per_class` of each class among those sure enough.

    labels, confidences, tie_breakers: (N,); confidence_threshold: one, or (K,) by class. A class
    with fewer repeats its images, surest first, up to `max_repeats` times each (Xie et al. 2020,
    section 3: balanced data). None for `images_per_class`: all that pass the threshold, once. Of
    equal confidences the smaller tie breaker is kept.
    """
    thresholds = np.broadcast_to(np.asarray(confidence_threshold, np.float32), num_classes)
    sure = confidences >= thresholds[labels]
    repeats = sure.astype(np.int32)
    reasons = np.where(sure, Reason.KEPT, Reason.BELOW_THRESHOLD).astype(np.uint8)
    if images_per_class is None:
        return Selection(repeats, reasons)
    rows = np.flatnonzero(sure)
    order = rows[np.lexsort((tie_breakers[rows], -confidences[rows], labels[rows]))]
    counts = np.bincount(labels[order], minlength=num_classes)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    repeats[order] = _repeats_of(rank, np.repeat(counts, counts), images_per_class, max_repeats)
    reasons[order] = np.where(rank < images_per_class, Reason.KEPT, Reason.OVER_CLASS_TARGET)
    return Selection(repeats, reasons)


def class_target(
    num_images: int,
    num_classes: int,
    images_per_class: int | None,
    fraction_per_class: float | None,
) -> int | None:
    """The number of images wanted of each class; None where nothing balances."""
    if images_per_class is not None:
        return images_per_class
    if fraction_per_class is None:
        return None
    return max(1, round(fraction_per_class * num_images / num_classes))


def sharpen(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """(N, K) probabilities to the power 1 / temperature, each row again of sum 1."""
    relative = probabilities / probabilities.max(axis=1, keepdims=True)  # no row underflows whole
    powered: NDArray[np.float32] = np.power(relative, np.float32(1 / temperature))
    result: NDArray[np.float32] = powered / powered.sum(axis=1, keepdims=True)
    return result


def _repeats_of(
    rank: NDArray[np.int64], count: NDArray[np.int64], target: int, max_repeats: int
) -> NDArray[np.int32]:
    """How often the image at `rank` of its class counts, so that the class comes to `target`."""
    whole, rest = np.divmod(target, np.maximum(count, 1))
    repeats: NDArray[np.int32] = np.minimum(whole + (rank < rest), max_repeats).astype(np.int32)
    return repeats
