"""Intersection over union of masks, image by image, and what a set of images comes to.

Overlaps (N, K, 3) count of each image and class the pixels that are both predicted and true, those
predicted and those true, of pixels that are known. The mean is over the classes that the images
show. Intervals resample whole images: pixels of one image are not independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.class_maps import IGNORED
from pipeline.errors import DataError
from pipeline.tasks.metrics import NO_IMAGES
from pipeline.tasks.significance import Bootstrap, PairedTest, compare_scores

Counts = NDArray[np.int64]
Reals = NDArray[np.float64]
Masks = NDArray[np.uint8]

MOST_WEIGHTS = 1 << 22  # of resampled images in memory at a time
TOLERANCE = 0.0075  # of the diagonal of an image, by which two boundaries may differ


def overlaps(predicted: Masks, masks: Masks, num_classes: int) -> Counts:
    """The overlaps (N, K, 3) of predicted masks (N, S, S) and true ones; raises DataError where
    these do not fit each other."""
    if predicted.shape != masks.shape:
        raise DataError(
            f"predicted masks of shape {predicted.shape} do not fit masks of {masks.shape}"
        )
    if not len(masks):
        raise DataError(NO_IMAGES)
    found = np.empty((len(masks), num_classes, 3), np.int64)
    for place, guess, truth in zip(found, predicted, masks, strict=True):
        known = truth != IGNORED
        pair = guess[known].astype(np.int64), truth[known].astype(np.int64)
        if max(map(_highest, pair)) >= num_classes:
            raise DataError(f"masks of more than {num_classes} classes")
        flat = np.bincount(pair[1] * num_classes + pair[0], minlength=num_classes**2)
        table = flat.reshape(num_classes, num_classes)
        place[:] = np.stack([table.diagonal(), table.sum(axis=0), table.sum(axis=1)], axis=1)
    return found


def _highest(classes: Counts) -> int:
    return int(classes.max()) if len(classes) else 0


def class_ious(sums: NDArray[Any]) -> Reals:
    """Of overlaps (…, K, 3) the intersection over union of each class, (…, K); NaN where no pixel
    shows it."""
    both, predicted, true = np.moveaxis(sums, -1, 0)
    ious = np.full(both.shape, np.nan)
    np.divide(both, predicted + true - both, out=ious, where=true > 0)
    return ious


def mean_iou(sums: NDArray[Any]) -> Reals:
    """Their mean over the classes that are shown, (…); 0 where none is."""
    ious = class_ious(sums)
    shown = ~np.isnan(ious)
    mean: Reals = np.where(shown, ious, 0).sum(axis=-1) / np.maximum(shown.sum(axis=-1), 1)
    return mean


def resampled(models: Sequence[Counts], bootstrap: Bootstrap) -> Reals:
    """The mean IoU (B, M) of B resamples of the images of each of M models' overlaps (N, K, 3), the
    same images for all; without those that show no class, of which alone nothing can be said."""
    shown = _shows_any(models[0])
    images, generator = int(shown.sum()), np.random.default_rng(bootstrap.seed)
    if not images:
        raise DataError(NO_IMAGES)
    flat = np.concatenate([each[shown].reshape(images, -1) for each in models], axis=1)
    flat = flat.astype(np.float64)  # of whole numbers, so that sums are exact in any order
    shape, chance = (-1, len(models), *models[0].shape[1:]), np.full(images, 1 / images)
    step, parts = max(1, MOST_WEIGHTS // images), []
    for start in range(0, bootstrap.samples, step):
        count = min(step, bootstrap.samples - start)
        weights = generator.multinomial(images, chance, size=count).astype(np.float64)
        parts.append(mean_iou((weights @ flat).reshape(shape)))
    return np.concatenate(parts)


def _shows_any(evidence: Counts) -> NDArray[np.bool_]:
    return np.asarray(evidence[:, :, 2].any(axis=1))


def iou_interval(evidence: Counts, bootstrap: Bootstrap) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean IoU; of a single image nothing is known."""
    if _shows_any(evidence).sum() < 2:
        return 0.0, 1.0
    return _percentiles(resampled([evidence], bootstrap)[:, 0], bootstrap)


def difference_error(before: Counts, after: Counts, bootstrap: Bootstrap) -> float:
    """Standard error of the difference in mean IoU of two models on the same images."""
    return float(_differences(before, after, bootstrap).std())


def compare_ious(before: Counts, after: Counts, bootstrap: Bootstrap) -> PairedTest:
    """Paired test of two models: the bootstrap, and an exact sign test on the images' own means.

    Raises DataError for different images, or none.
    """
    low, high = _percentiles(_differences(before, after, bootstrap), bootstrap)
    difference = float(mean_iou(after.sum(axis=0)) - mean_iou(before.sum(axis=0)))
    own = mean_iou(after) - mean_iou(before)
    gained, lost = int((own > 0).sum()), int((own < 0).sum())
    return compare_scores(difference, (low, high), gained, lost, bootstrap.interval)


def _differences(before: Counts, after: Counts, bootstrap: Bootstrap) -> Reals:
    if before.shape != after.shape or not len(before):
        raise DataError(
            f"can't pair predictions of {len(before)} and {len(after)} images; "
            "they must be the same images, and at least one"
        )
    scores = resampled([before, after], bootstrap)
    return np.asarray(scores[:, 1] - scores[:, 0])


def _percentiles(values: Reals, bootstrap: Bootstrap) -> tuple[float, float]:
    tail = (1 - bootstrap.interval) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def boundary_f1(predicted: Masks, masks: Masks) -> float:
    """How well boundaries agree (Csurka et al. 2013): F1 within TOLERANCE, at least one pixel.

    The mean over the classes that an image shows, then over the images that show any. A boundary is
    where two known classes meet; of a class that has none, and was predicted none, F1 is 1.
    """
    side = masks.shape[-1]
    reach = max(1.0, TOLERANCE * 2**0.5 * side)
    means = []
    for guess, truth in zip(predicted, masks, strict=True):
        known = truth != IGNORED
        shown = np.unique(truth[known])
        if len(shown):
            guesses, truths = (
                _boundaries(np.where(known, each, IGNORED).astype(np.uint8), shown)
                for each in (guess, truth)
            )
            means.append(_f1(guesses, truths, reach).mean())
    return float(np.mean(means)) if means else 0.0


def _boundaries(mask: Masks, classes: Masks) -> NDArray[np.bool_]:
    """Where each class meets another known one: (K', S, S)."""
    edge = np.zeros(mask.shape, np.bool_)
    for view, marked in ((mask, edge), (mask.T, edge.T)):
        one, other = view[1:], view[:-1]
        meets = (one != other) & (one != IGNORED) & (other != IGNORED)
        marked[1:] |= meets
        marked[:-1] |= meets
    return np.asarray(edge & (mask == classes[:, None, None]))


def _f1(guess: NDArray[np.bool_], truth: NDArray[np.bool_], reach: float) -> Reals:
    """The F1 of each class from boundaries (K', S, S)."""

    def found(part: NDArray[np.bool_], near: NDArray[np.bool_]) -> Reals:
        count = part.sum(axis=(1, 2))
        return np.where(count, (part & near).sum(axis=(1, 2)) / np.maximum(count, 1), 0.0)

    precision, recall = found(guess, _widened(truth, reach)), found(truth, _widened(guess, reach))
    total = precision + recall
    none = ~guess.any(axis=(1, 2)) & ~truth.any(axis=(1, 2))
    return np.where(none, 1.0, 2 * precision * recall / np.where(total > 0, total, 1))


def _widened(boundary: NDArray[np.bool_], reach: float) -> NDArray[np.bool_]:
    """Boundaries (K', S, S) with every pixel within `reach` of them."""
    radius, side = int(reach), boundary.shape[-1]
    padded = np.pad(boundary, ((0, 0), (radius, radius), (radius, radius)))
    wide = np.zeros_like(boundary)
    for row in range(-radius, radius + 1):
        for column in range(-radius, radius + 1):
            if row**2 + column**2 <= reach**2:
                top, left = radius + row, radius + column
                wide |= padded[:, top : top + side, left : left + side]
    return wide
