"""Choose which predictions become pseudo-labels: by confidence, and balanced over the classes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from pipeline.data.distributions import Distributions
from pipeline.labels.levels import level_confidences

Counts = NDArray[np.int64]


class Reason(IntEnum):
    """Why an image is or is not among the pseudo-labels."""

    KEPT = 0
    BELOW_THRESHOLD = 1  # its confidence is under its class's threshold
    OVER_CLASS_TARGET = 2  # surer images of its class already fill images_per_class
    STRANGER = 3  # it shows none of the classes, and strangers are dropped

    @property
    def text(self) -> str:
        """The reason as it is written to the pseudo-labels."""
        return self.name.lower()


@dataclass(frozen=True)
class Selection:
    """For each image, how often it counts (0: not at all) and why; both (N,)."""

    repeats: NDArray[np.int32]
    reasons: NDArray[np.uint8]


@dataclass(frozen=True)
class Cuts:
    """Where the levels of each class are cut, (K,) all.

    sure: an image of a level below it is sure enough. surest: of those, an image of a level below
    it counts `more` times, and so do `taken` of the `tied` ones of that very level, where only a
    part of them does, else 0 of 0; the others count `fewer` times. num_sure: images that are sure
    enough; num_more: of them, those that count `more` times.
    """

    sure: Counts
    surest: Counts
    taken: Counts
    tied: Counts
    more: Counts
    fewer: Counts
    num_sure: Counts
    num_more: Counts


def cut_levels(
    counts: NDArray[np.uint32],
    thresholds: NDArray[np.float32],
    *,
    images_per_class: int | None,
    max_repeats: int,
) -> Cuts:
    """Keep the surest `images_per_class` of each class among those sure enough.

    counts: (K, L) predictions of each class and level; thresholds: (K,). A class with fewer
    repeats its images, surest first, up to `max_repeats` times each (Xie et al. 2020, section 3:
    balanced data). None for `images_per_class`: all that pass the threshold, once.
    """
    sure = sure_levels(thresholds)
    num_sure = num_below(counts, sure)
    one, none = np.ones_like(sure), np.zeros_like(sure)
    if images_per_class is None:
        return Cuts(sure, sure, none, none, one, one, num_sure, num_sure)
    whole, num_more = np.divmod(images_per_class, np.maximum(num_sure, 1))
    more, fewer = np.minimum(whole + 1, max_repeats), np.minimum(whole, max_repeats)
    num_more = np.where(num_sure > 0, num_more, 0)
    surest, taken, tied = none.copy(), none.copy(), none.copy()
    for label in np.flatnonzero((num_more > 0) & (more != fewer)):
        surer = np.cumsum(counts[label], dtype=np.int64)
        level = int(np.searchsorted(surer, num_more[label]))
        left = surer[level] - num_more[label]
        surest[label] = level if left else level + 1
        tied[label] = counts[label, level] if left else 0
        taken[label] = tied[label] - left if left else 0
    return Cuts(sure, surest, taken, tied, more, fewer, num_sure, num_more)


def sure_levels(thresholds: NDArray[np.float32]) -> Counts:
    """The number of levels, surest first, that are at least as sure as each threshold; (K,)."""
    found = np.searchsorted(-level_confidences(), -thresholds, side="right")
    return np.asarray(found, np.int64)


def num_below(counts: NDArray[np.uint32], levels: Counts) -> Counts:
    """The number of predictions of each class, (K,), of a level below that of the class."""
    sums = [row[:level].sum(dtype=np.int64) for row, level in zip(counts, levels, strict=True)]
    return np.array(sums, np.int64)


def tied_rows(labels: NDArray[np.int32], levels: NDArray[np.uint16], cuts: Cuts) -> Counts:
    """The rows, of (n,), at a level of which some images are taken and some are not."""
    return np.flatnonzero((levels == cuts.surest[labels]) & (cuts.taken[labels] > 0))


def select(
    labels: NDArray[np.int32],
    levels: NDArray[np.uint16],
    taken: NDArray[np.bool_],
    cuts: Cuts,
    dropped: NDArray[np.bool_] | None = None,
) -> Selection:
    """What `cuts` mean for images of these labels and levels, (n,).

    taken: whether an image at the level where its class is cut counts as one of the surer.
    dropped: strangers, which the cuts must not have counted; None for none.
    """
    sure = levels < cuts.sure[labels]
    more = sure & ((levels < cuts.surest[labels]) | taken)
    repeats = np.where(more, cuts.more[labels], cuts.fewer[labels]) * sure
    reasons = np.where(repeats > 0, Reason.KEPT, Reason.OVER_CLASS_TARGET)
    reasons = np.where(sure, reasons, Reason.BELOW_THRESHOLD)
    if dropped is not None:
        repeats, reasons = repeats * ~dropped, np.where(dropped, Reason.STRANGER, reasons)
    return Selection(repeats.astype(np.int32), reasons.astype(np.uint8))


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


def sharpened(log_probs: Distributions, temperature: float) -> Distributions:
    """Log-probabilities as probabilities to the power 1 / temperature, each row again of sum 1."""
    values = np.exp(log_probs.values)
    if log_probs.others is None:
        return Distributions(log_probs.num_classes, sharpen(values, temperature))
    whole = np.concatenate([values, np.exp(log_probs.others)[:, None]], axis=1)
    classes = np.ones(whole.shape[1], np.float32)
    classes[-1] = log_probs.num_classes - values.shape[1]
    whole = sharpen(whole, temperature, classes)
    return Distributions(log_probs.num_classes, whole[:, :-1], log_probs.classes, whole[:, -1])


def sharpen(
    probabilities: NDArray[np.float32],
    temperature: float,
    classes: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """(N, K) probabilities to the power 1 / temperature, each row again of sum 1.

    classes: (K,) the number of classes that a column stands for, None for one each.
    """
    relative = probabilities / probabilities.max(axis=1, keepdims=True)  # no row underflows whole
    powered = relative if temperature == 1 else np.power(relative, np.float32(1 / temperature))
    sums = powered if classes is None else powered * classes
    result: NDArray[np.float32] = powered / sums.sum(axis=1, keepdims=True)
    return result
