"""Distribution alignment: move a teacher's mean prediction to the classes' known shares.

Berthelot et al. 2020 (ReMixMatch), section 3.2, repeated until the mean is where it should be,
which is the row and column scaling of Sinkhorn & Knopp 1967; the mean is over all unlabelled images
at once. A single round leaves most of the way: predictions are sure, so only few images move.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

MAX_ROUNDS = 200
TOLERANCE = 0.005  # of each class's share
ROWS_AT_ONCE = 4096
MOST_NUMBERS = 1 << 24  # probabilities whose mean is close enough to that of all


def every_row(rows: int, num_classes: int, most_numbers: int = MOST_NUMBERS) -> int:
    """Every how manyeth row is enough: the least that gives no more than `most_numbers` numbers."""
    return max(1, -(-rows * num_classes // most_numbers))


def alignment_shift(log_probs: Floats, target: NDArray[np.float64]) -> NDArray[np.float64]:
    """What to add to log-probabilities (N, K) so that their mean is `target`; (K,) both.

    0 for a class that no image is given any probability of, which nothing can align. Shares of 0
    in `target` are not allowed.
    """
    assert (target > 0).all()
    shift = np.zeros(len(target))
    probabilities = np.exp(log_probs)
    there = probabilities.any(axis=0)
    for _ in range(MAX_ROUNDS if there.any() else 0):
        mean = mean_prediction(probabilities, np.exp(shift))
        ratio = np.divide(target, mean, out=np.ones_like(mean), where=there)
        if np.abs(ratio - 1).max() <= TOLERANCE:
            break
        shift += np.log(ratio)
    return shift


def mean_prediction(probabilities: Floats, factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean (K,) of probabilities (N, K) times `factors` (K,), each row again of sum 1."""
    total = np.zeros(len(factors))
    for start in range(0, len(probabilities), ROWS_AT_ONCE):
        weights = probabilities[start : start + ROWS_AT_ONCE] * factors
        total += (weights / weights.sum(axis=1, keepdims=True)).sum(axis=0)
    return total / len(probabilities)


def aligned(log_probs: Floats, shift: NDArray[np.float64]) -> Floats:
    """`log_probs` (N, K) plus `shift` (K,), each row again of sum 1 once exponentiated."""
    moved = log_probs.astype(np.float64) + shift
    result: Floats = (moved - np.logaddexp.reduce(moved, axis=1, keepdims=True)).astype(np.float32)
    return result
