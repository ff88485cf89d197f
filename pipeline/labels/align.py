"""Distribution alignment: move a teacher's mean prediction to the classes' known shares.

Berthelot et al. 2020 (ReMixMatch), section 3.2, repeated until the mean is where it should be,
which is the row and column scaling of Sinkhorn & Knopp 1967; the mean is over all unlabelled images
at once. A single round leaves most of the way: predictions are sure, so only few images move.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Shares = NDArray[np.float64]

MAX_ROUNDS = 200
TOLERANCE = 0.005  # of each class's share
ROWS_AT_ONCE = 4096
MOST_NUMBERS = 1 << 24  # probabilities whose mean is close enough to that of all


def row_stride(rows: int, num_classes: int, most_numbers: int | None = None) -> int:
    """The stride over the rows that leaves no more than `most_numbers` (MOST_NUMBERS) numbers."""
    return max(1, -(-rows * num_classes // (most_numbers or MOST_NUMBERS)))


def alignment_shift(log_probs: Floats, target: NDArray[np.float64]) -> NDArray[np.float64]:
    """What to add to log-probabilities (N, K) so that their mean is `target`; (K,) both.

    0 for a class that no image is given any probability of, which nothing can align. Shares of 0
    in `target` are not allowed.
    """
    assert (target > 0).all()
    shift = np.zeros(len(target))
    probabilities = np.exp(log_probs)
    present = probabilities.any(axis=0)
    for _ in range(MAX_ROUNDS if present.any() else 0):
        mean = mean_prediction(probabilities, np.exp(shift))
        ratio = np.divide(target, mean, out=np.ones_like(mean), where=present)
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


PRIOR_WEIGHT = 0.05  # of the labels' shares, as if so many images for each one were known
EM_ROUNDS, EM_TOLERANCE = 500, 1e-6


def estimate_shares(
    log_probs: Floats, label_counts: NDArray[np.int64], *, taught: bool = False
) -> Shares:
    """The classes' shares (K,) among images of which `log_probs` (M, K) are the predictions.

    label_counts: (K,) labelled images of each class, none 0; the predictions are of a model of
    these. `taught`: also of pseudo-labels, so that it has learnt the shares of these images and its
    mean prediction tells them; to estimate again what it was aligned with would count the same
    evidence in each generation anew. The estimate counts where errors of the model don't explain
    it: where it is farther from the labels' shares than as many errors as the predictions expect
    could move them (each error moves two shares), or, by chi-square, than those of as many other
    labels would be on average.
    Else the answer is the labels' shares.
    """
    labels: Shares = label_counts / label_counts.sum()
    if not len(log_probs):
        return labels
    if taught:
        estimate: Shares = np.exp(log_probs).mean(axis=0, dtype=np.float64)
    else:
        estimate = shares_by_em(log_probs, labels)
    by_errors = 2 * (1 - np.exp(log_probs.max(axis=1)).mean(dtype=np.float64))
    by_chance = len(labels) - 1
    chi_square = label_counts.sum() * ((estimate - labels) ** 2 / labels).sum()
    explained = np.abs(estimate - labels).sum() <= by_errors and chi_square <= by_chance
    return labels if explained else estimate


def shares_by_em(
    log_probs: Floats, label_shares: Shares, *, prior_weight: float = PRIOR_WEIGHT
) -> Shares:
    """The most probable shares (K,) of the classes; never 0 where the prior has a weight.

    Saerens, Latinne & Decaestecker 2002, eq. 2.9, with a Dirichlet prior around `label_shares`
    (K,) that counts as `prior_weight` × M images: without it classes that few images are of
    vanish. log_probs: (M, K), M at least 1.
    """
    probabilities, shares = np.exp(log_probs), label_shares
    for _ in range(EM_ROUNDS):
        last = shares
        posterior = mean_prediction(probabilities, last / label_shares)
        shares = (posterior + prior_weight * label_shares) / (1 + prior_weight)
        if np.abs(shares - last).max() <= EM_TOLERANCE:
            break
    return shares


def pool_shares(
    kind: str, log_probs: Floats, label_counts: NDArray[np.int64], *, taught: bool = False
) -> Shares:
    """The shares (K,) that unlabelled images are taken to have, for select.distribution_alignment.

    kind: "estimated" from their predictions, "uniform", or else the labels'. See `estimate_shares`.
    """
    if kind == "estimated":
        return estimate_shares(log_probs, label_counts, taught=taught)
    if kind == "uniform":
        return np.full(len(label_counts), 1 / len(label_counts))
    return np.asarray(label_counts / label_counts.sum(), np.float64)
