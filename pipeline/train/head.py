"""A linear head on stored features: multinomial logistic regression, solved to its end.

Convex, so the answer is a function of the data alone. The training set comes in blocks, gone over
once an evaluation, from memory or from shards; memory is bounded by one block and four matrices of
features × features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.features import check_finite
from pipeline.errors import DataError
from pipeline.models.head import LinearHead
from pipeline.train.logistic import Chunk, Chunks, Doubles, solve

Floats = NDArray[np.float32]
Integers = NDArray[np.integer[Any]]

ROWS_AT_ONCE = 512  # brought to float64 at once
MEMORY_LIMIT = 1 << 28  # bytes of features held between passes
TOLERANCE = 1e-10  # nats gained by an iteration on the mean loss, below which it is solved


@dataclass(frozen=True)
class FeatureBlock:
    """One part of a training set.

    features: (n, F) float16 or float32; targets: (n, K) float32 probabilities; weights: (n,)
    float32, rows of weight 0 are left out.
    """

    features: NDArray[np.floating[Any]]
    targets: Floats
    weights: Floats


Blocks = Callable[[], Iterable[FeatureBlock]]  # called once for each pass


def fit_head(
    blocks: Blocks,
    num_features: int,
    num_classes: int,
    *,
    l2: float,
    tolerance: float = TOLERANCE,
) -> LinearHead:
    """The head that minimises Σ w · cross-entropy + l2/2 · |W|² over standardised features.

    Mean and standard deviation are plain ones over the rows of weight > 0, and folded into the
    head; a feature that does not vary gets weight 0. The bias is not penalised, so a class that no
    target has comes out with a probability near 0. l2 is 1/C of scikit-learn's LogisticRegression.
    Solved once an iteration gains less than `tolerance` (nats) on the mean loss.
    Raises DataError for features that are not finite and for targets of a single class.
    """
    return fit_path(blocks, num_features, num_classes, l2s=[l2], tolerance=tolerance)[0]


def fit_path(
    blocks: Blocks,
    num_features: int,
    num_classes: int,
    *,
    l2s: Sequence[float],
    tolerance: float = TOLERANCE,
    memory_limit: int = MEMORY_LIMIT,
) -> list[LinearHead]:
    """`fit_head` for several l2, in their order, each started from the one before.

    A training set of up to `memory_limit` bytes as float64 is held between passes.
    """
    mass, rows = _class_mass(blocks, num_features, num_classes)
    chunks = _chunks(blocks)
    if rows * num_features * 8 <= memory_limit:
        chunks = partial(list, list(chunks()))
    solved = solve(chunks, num_features, rows, mass, l2s, tolerance=tolerance)
    return [
        LinearHead(np.ascontiguousarray(weight.T, np.float32), bias.astype(np.float32))
        for weight, bias in solved
    ]


def fit_labeled(
    features: NDArray[np.floating[Any]], labels: Integers, num_classes: int, *, l2: float
) -> LinearHead:
    """`fit_head` of one block with labels for certain; features: (N, F), labels: (N,)."""
    block = labeled_block(features, labels, num_classes)
    return fit_head(lambda: [block], features.shape[1], num_classes, l2=l2)


def labeled_block(
    features: NDArray[np.floating[Any]], labels: Integers, num_classes: int
) -> FeatureBlock:
    """Labels (N,) as one-hot targets of weight 1."""
    targets = np.eye(num_classes, dtype=np.float32)[labels]
    return FeatureBlock(features, targets, np.ones(len(labels), np.float32))


def _chunks(blocks: Blocks) -> Chunks:
    """Rows of weight > 0 in float64, ROWS_AT_ONCE at most."""

    def one_pass() -> Iterator[Chunk]:
        for block in blocks():
            yield from _chunks_of(block)
            del block  # before the next one is made

    return one_pass


def _chunks_of(block: FeatureBlock) -> Iterator[Chunk]:
    for start in range(0, len(block.weights), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        weights = block.weights[part].astype(np.float64)
        used = slice(None) if (weights > 0).all() else weights > 0
        features = block.features[part][used].astype(np.float64)
        if len(features):
            yield features, block.targets[part][used] * weights[used, None]


def _class_mass(blocks: Blocks, num_features: int, num_classes: int) -> tuple[Doubles, int]:
    """Sum of weighted targets of each class (K,), and rows of weight > 0; checks every block."""
    mass, rows = np.zeros(num_classes), 0
    for block in blocks():
        count = len(block.weights)
        assert block.features.shape == (count, num_features)
        assert block.targets.shape == (count, num_classes)
        used = block.weights > 0
        check_finite(block.features[used])
        mass += block.weights[used].astype(np.float64) @ block.targets[used]
        rows += int(used.sum())
        del block  # before the next one is made
    if (mass > 0).sum() < 2:
        raise DataError(
            f"all {rows} images to fit a head on are of class numbers "
            f"{np.flatnonzero(mass > 0).tolist()}; it needs labelled images of two classes at least"
        )
    return mass, rows


L2_CANDIDATES = tuple(10.0**power for power in range(-3, 5))
DEFAULT_L2 = 1.0  # where no class has two labelled images, so that nothing can be held out
TAUGHT_L2 = 100.0  # of a head that pseudo-labels teach
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
