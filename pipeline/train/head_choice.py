"""Cross-validation of a head on its labels: the folds, and which L2 to use.

With few labels no image need be given up for validation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.models.head import LinearHead
from pipeline.train.head import (
    Integers,
    fit_path,
    labeled_block,
)

L2_CANDIDATES = tuple(10.0**power for power in range(-3, 5))
DEFAULT_L2 = 1.0  # where no class has two labelled images, so that nothing can be held out
TAUGHT_L2 = 100.0  # of a head that pseudo-labels teach: docs/training.md has others
TIE = 1e-4  # nats
CHOICE_TOLERANCE = 1e-8
ALWAYS_TRAINS = -1


@dataclass(frozen=True)
class Choice:
    """The chosen l2, and the mean negative log-likelihood (nats) of each candidate."""

    l2: float
    scores: dict[float, float]


def stratified_folds(labels: Integers, folds: int, seed: int) -> NDArray[np.int64]:
    """The fold 0 … that holds out each image, (N,): a function of the labels and the seed.

    A class's images are dealt over the folds as evenly as they go, so a class of two or more is in
    every training part. A class of one image is ALWAYS_TRAINS. No more folds than the median class
    has images (2 at least): with fewer images than folds, the held-out image's class would be the
    rare one in training.
    """
    counts = np.bincount(labels)
    usable = counts[counts > 1]
    result = np.full(len(labels), ALWAYS_TRAINS, np.int64)
    if not len(usable):
        return result
    folds = max(2, min(folds, int(np.median(usable))))
    generator = np.random.default_rng(seed)
    dealt = 0
    for label in np.flatnonzero(counts > 1):
        rows = generator.permutation(np.flatnonzero(labels == label))
        result[rows] = (dealt + np.arange(len(rows))) % folds
        dealt += len(rows)
    return result


def choose_l2(
    features: NDArray[np.floating[Any]],
    labels: Integers,
    num_classes: int,
    *,
    seed: int,
    folds: int = 5,
    candidates: Sequence[float] = L2_CANDIDATES,
) -> Choice:
    """The l2 of the least mean negative log-likelihood over held-out images; ties to the larger.

    features: (N, F) raw, labels: (N,). Standardised inside each fold. DEFAULT_L2, without scores,
    where no class has two images. Raises DataError for features that are not finite and for labels
    of a single class.
    """
    # The largest first: each is started from the one before, and the small ones are the slow ones.
    l2s = sorted(candidates, reverse=True)
    total, images = np.zeros(len(l2s)), 0
    for out, heads in _folds_of_heads(features, labels, num_classes, l2s, seed, folds):
        own = np.arange(len(out)), labels[out]
        total -= [head.log_probs(features[out])[own].sum(dtype=np.float64) for head in heads]
        images += len(out)
    if not images:
        return Choice(DEFAULT_L2, {})
    scores = total / images
    best = l2s[int(np.flatnonzero(scores <= scores.min() + TIE)[0])]
    return Choice(best, dict(sorted(zip(l2s, scores.tolist(), strict=True))))


def _folds_of_heads(
    features: NDArray[np.floating[Any]],
    labels: Integers,
    num_classes: int,
    l2s: Sequence[float],
    seed: int,
    folds: int,
) -> Iterator[tuple[NDArray[np.int64], list[LinearHead]]]:
    """The rows held out, and the heads trained on all others, fold by fold."""
    fold = stratified_folds(labels, folds, seed)
    for number in range(fold.max() + 1):
        inside = fold != number
        block = labeled_block(features[inside], labels[inside], num_classes)
        heads = fit_path(
            partial(list, [block]),
            features.shape[1],
            num_classes,
            l2s=l2s,
            tolerance=CHOICE_TOLERANCE,
        )
        yield np.flatnonzero(~inside), heads
