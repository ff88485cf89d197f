"""The classes' shares among unlabelled images, from predictions of a model of labelled ones.

Where they differ from the labels' shares, aligning predictions with the labels' takes images of
frequent classes away from them (see align.py).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.labels.align import mean_prediction

Floats = NDArray[np.float32]
Shares = NDArray[np.float64]

PRIOR_WEIGHT = 0.05  # of the labels' shares, as if so many images for each one were known
MAX_ROUNDS, TOLERANCE = 500, 1e-6


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
    found = mean_shares(log_probs) if taught else shares_by_em(log_probs, labels)
    by_errors = 2 * (1 - np.exp(log_probs.max(axis=1)).mean(dtype=np.float64))
    by_chance = len(labels) - 1
    chi_square = label_counts.sum() * ((found - labels) ** 2 / labels).sum()
    explained = np.abs(found - labels).sum() <= by_errors and chi_square <= by_chance
    return labels if explained else found


def mean_shares(log_probs: Floats) -> Shares:
    """The mean prediction (K,) of `log_probs` (M, K)."""
    return np.asarray(np.exp(log_probs).mean(axis=0, dtype=np.float64))


def shares_by_em(
    log_probs: Floats, label_shares: Shares, *, prior_weight: float = PRIOR_WEIGHT
) -> Shares:
    """The most probable shares (K,) of the classes; never 0 where the prior has a weight.

    Saerens, Latinne & Decaestecker 2002, eq. 2.9, with a Dirichlet prior around `label_shares`
    (K,) that counts as `prior_weight` × M images: without it classes that few images are of
    vanish. log_probs: (M, K), M at least 1.
    """
    probabilities, shares = np.exp(log_probs), label_shares
    for _ in range(MAX_ROUNDS):
        last = shares
        posterior = mean_prediction(probabilities, last / label_shares)
        shares = (posterior + prior_weight * label_shares) / (1 + prior_weight)
        if np.abs(shares - last).max() <= TOLERANCE:
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


def label_shares(labels: NDArray[np.int64], num_classes: int) -> Shares:
    """The classes' shares (K,) among labelled images of these labels, (N,)."""
    counts = np.bincount(labels, minlength=num_classes)
    return np.asarray(counts / counts.sum(), np.float64)
