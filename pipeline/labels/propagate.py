"""Label propagation: what labelled images say of others across a graph of nearest neighbours.

Zhou et al. 2004 on a network's features, with the graph of Iscen et al. 2019 (sec. 3.2): a teacher
may misread a way of writing a class that lies beside that class all the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.evaluate.neighbors import nearest_neighbors
from pipeline.labels.align import Floats, aligned, alignment_shift
from pipeline.params import PropagationParams

Integers = NDArray[np.int64]

GAMMA = 3  # power of a similarity that is the weight of an edge, Iscen et al. 2019, eq. 9
LEAST_SHARE = 1e-6  # of a class: what neighbours say rules nothing out
MAX_ROUNDS, TOLERANCE = 2000, 1e-6
MOST_NUMBERS = 1 << 25  # images × classes that are propagated at once, 8 bytes each


def neighbor_graph(features: NDArray[Any], num_neighbors: int, *, threads: int = 1) -> Any:
    """The graph of nearest neighbours: symmetric, sparse, (N, N), max(0, cosine)³, no loops.

    features: (N, F). An edge joins two images of which one is among the `num_neighbors` nearest of
    the other; see nearest_neighbors for how they are found.
    """
    from scipy.sparse import csr_array

    cosines, rows = nearest_neighbors(features, num_neighbors, threads=threads)
    total, count = rows.shape
    weights = np.maximum(cosines, 0).astype(np.float64).ravel() ** GAMMA
    starts = np.arange(0, total * count + 1, count) if count else np.zeros(total + 1, np.int64)
    directed = csr_array((weights, rows.ravel(), starts), shape=(total, total))
    directed.sum_duplicates()
    return directed.maximum(directed.T.tocsr())


def propagated(
    labeled_features: NDArray[Any],
    labels: Integers,
    unlabeled_features: NDArray[Any],
    num_classes: int,
    params: PropagationParams,
    *,
    threads: int = 1,
) -> Floats:
    """The share of each class in what labelled images pass on to others: (M, K), rows sum to 1.

    labeled_features: (N, F), labels: (N,); unlabeled_features: (M, F). Z ← alpha · S Z +
    (1 - alpha) · Y until it stays, S the graph with rows and columns scaled by their degrees
    (Zhou et al. 2004, eq. 3). An image that nothing reaches has equal shares.
    """
    features = np.concatenate([labeled_features, unlabeled_features])
    graph = neighbor_graph(features, params.num_neighbors, threads=threads)
    alpha, spread = params.alpha, params.alpha * _normalized(graph)
    del features, graph
    received = np.empty((len(unlabeled_features), num_classes), np.float32)
    at_once = max(1, MOST_NUMBERS // spread.shape[0])
    for first in range(0, num_classes, at_once):
        classes = np.arange(first, min(first + at_once, num_classes))
        sources = np.zeros((spread.shape[0], len(classes)))
        sources[: len(labels)] = (1 - alpha) * (labels[:, None] == classes)
        received[:, classes] = _fixed_point(spread, sources, TOLERANCE * (1 - alpha))[len(labels) :]
    total = received.sum(axis=1, keepdims=True)
    shares: Floats = np.full_like(received, 1 / num_classes)
    np.divide(received, total, out=shares, where=total > 0)
    return shares


def combine_with_neighbors(
    log_probs: Floats,
    labeled_features: NDArray[Any],
    labels: Integers,
    unlabeled_features: NDArray[Any],
    params: PropagationParams,
    *,
    threads: int = 1,
) -> Floats:
    """A teacher's predictions (M, K), weighted, times what the neighbours say; log of shares again.

    What they say is first moved to the labels' shares of the classes, without which the class whose
    labelled images lie densest takes most. See `propagated` for features and labels.
    Raises DataError where a class has no labelled image.
    """
    num_classes = log_probs.shape[1]
    counts = np.bincount(labels, minlength=num_classes)
    if not counts.all():
        raise DataError(
            f"no labelled image of class number {int(counts.argmin())}, so nothing of it can be "
            "passed on; set predict.propagation to null"
        )
    shares = propagated(
        labeled_features, labels, unlabeled_features, num_classes, params, threads=threads
    )
    log_shares = np.log(shares + LEAST_SHARE).astype(np.float32)
    log_shares = aligned(log_shares, alignment_shift(log_shares, counts / counts.sum()))
    return aligned(params.teacher_weight * log_probs + log_shares, np.zeros(num_classes))


def _normalized(graph: Any) -> Any:
    """D^-1/2 W D^-1/2 of the graph W, D its degrees; images without an edge stay so."""
    from scipy.sparse import diags_array

    degrees = np.asarray(graph.sum(axis=1)).ravel()
    scale = diags_array(np.where(degrees > 0, degrees, 1.0) ** -0.5)
    return scale @ graph @ scale


def _fixed_point(
    spread: Any, sources: NDArray[np.float64], tolerance: float
) -> NDArray[np.float64]:
    """Z = spread @ Z + given, (N, C), by repeating it until no number moves by more."""
    current = sources
    for _ in range(MAX_ROUNDS):
        last, current = current, spread @ current + sources
        if np.abs(current - last).max() <= tolerance:
            break
    return current
