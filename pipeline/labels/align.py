"""Distribution alignment: move a teacher's mean prediction to the classes' known shares.

Berthelot et al. 2020 (ReMixMatch), section 3.2; the mean is over all unlabelled images at once.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def mean_prediction(shards: Iterable[Floats], num_classes: int) -> NDArray[np.float64]:
    """The mean of exp(log_probs) over all rows of all shards, (K,); each shard: (n, K).

    One pass that holds a shard at a time; equal shares where there are no rows.
    """
    total, rows = np.zeros(num_classes), 0
    for log_probs in shards:
        total += np.exp(log_probs.astype(np.float64)).sum(axis=0)
        rows += len(log_probs)
    return total / rows if rows else np.full(num_classes, 1 / num_classes)


def alignment_shift(mean: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """What to add to log-probabilities so that they follow `target`; all (K,).

    The log of target / mean; 0 for a class that no image is given any probability of, which
    nothing can align. Shares of 0 in `target` are not allowed.
    """
    assert (target > 0).all()
    return np.log(np.divide(target, mean, out=np.ones_like(mean), where=mean > 0))


def aligned(log_probs: Floats, shift: NDArray[np.float64]) -> Floats:
    """`log_probs` (N, K) plus `shift` (K,), each row again of sum 1 once exponentiated."""
    moved = log_probs.astype(np.float64) + shift
    result: Floats = (moved - np.logaddexp.reduce(moved, axis=1, keepdims=True)).astype(np.float32)
    return result
