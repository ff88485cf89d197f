"""Strangers: unlabelled images of none of the classes, found by where a random walk ends.

In a graph of near neighbours in feature space a walk that starts at an image of a class soon comes
by labelled images; among strangers, which lie beside each other, it does not. Labelled images say
how seldom is too seldom: no stranger need be known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.neighbors import neighbor_search
from pipeline.labels.align import Floats
from pipeline.labels.propagate import (
    GAMMA,
    FeatureRows,
    Integers,
    evenly_spaced,
    neighbor_graph,
    rows_of_each,
)

NUM_FOLDS = 10
ROWS_AT_ONCE = 65_536  # of the others
MOST_IN_GRAPH = (
    20_000  # unlabelled images, and labelled ones; the graph takes time by the square of its images
)
LEAST_SHARE = 1e-6  # of walks, so that the logarithm of none is a number


@dataclass(frozen=True)
class StrangerScores:
    """The larger, the more of a stranger: unlabeled (M,), labeled (n,) as if not labelled itself,
    of those in the graph.

    A labelled image that is the only one of its class has NaN: nothing is known of its like.
    """

    labeled: Floats
    unlabeled: Floats


def find_strangers(
    labeled_features: FeatureRows,
    labels: Integers,
    unlabeled_features: FeatureRows,
    *,
    false_alarms: float = 0.02,
) -> NDArray[np.bool_]:
    """Which unlabelled images, (M,), show none of the classes; see the functions it is made of."""
    scores = stranger_scores(labeled_features, labels, unlabeled_features)
    strangers: NDArray[np.bool_] = scores.unlabeled > stranger_threshold(
        scores.labeled, false_alarms
    )
    return strangers


def stranger_scores(
    labeled_features: FeatureRows,
    labels: Integers,
    unlabeled_features: FeatureRows,
    *,
    num_neighbors: int = 20,
    alpha: float = 0.8,
    most_in_graph: int | None = None,
) -> StrangerScores:
    """Minus the log of the share of random walks from an image that end at a labelled one.

    labeled_features: (N, F), labels: (N,); unlabeled_features: (M, F), of any size. A walk goes on
    with probability `alpha` at each step, along edges by their weight: the diffusion of Zhou et al.
    2004 as a walk with restart (Tong et al. 2006). At most `most_in_graph` (MOST_IN_GRAPH)
    unlabelled images, evenly spaced, are in the graph, and of labelled ones as many of each class;
    the other unlabelled ones take one step into it (Delalleau et al. 2005). What a labelled image
    would have if it were not labelled comes of NUM_FOLDS folds.
    """
    most = MOST_IN_GRAPH if most_in_graph is None else most_in_graph
    rows, known = evenly_spaced(len(unlabeled_features), most), rows_of_each(labels, most)
    labels = labels[known]
    nodes = np.concatenate(
        [labeled_features[known].astype(np.float32), unlabeled_features[rows].astype(np.float32)]
    )
    folds = _folds(labels)
    shares = _shares(neighbor_graph(nodes, num_neighbors), folds, alpha)
    ended = np.empty(len(unlabeled_features))
    ended[rows] = shares[len(labels) :].sum(axis=1)
    is_other = np.ones(len(ended), np.bool_)
    is_other[rows] = False
    others = np.flatnonzero(is_other)
    search = neighbor_search(nodes, num_neighbors, exact_images=len(nodes))
    for start in range(0, len(others), ROWS_AT_ONCE):
        part = others[start : start + ROWS_AT_ONCE]
        near = search(unlabeled_features[part])
        weights = near.cosines.clip(min=0).astype(np.float64) ** GAMMA
        total = weights.sum(axis=1)
        mean = (weights * shares.sum(axis=1)[near.rows]).sum(axis=1)
        ended[part] = alpha * mean / np.where(total > 0, total, 1)
    return StrangerScores(
        _score(_without_own_fold(shares[: len(labels)], labels, folds)), _score(ended)
    )


def stranger_threshold(labeled_scores: Floats, false_alarms: float = 0.02) -> float:
    """The score beyond which an image is a stranger, from labeled_scores (N,) alone.

    Where the labelled images are a random draw, about `false_alarms` of the unlabelled ones of the
    classes lie beyond it (conformal p-values, Bates et al. 2023). Of fewer than 1 / false_alarms
    labelled images it is the largest score. Infinite where no score is known.
    """
    known = np.sort(labeled_scores[np.isfinite(labeled_scores)])
    if not len(known):
        return float("inf")
    place = min(int(np.ceil((1 - false_alarms) * (len(known) + 1))), len(known))
    return float(known[place - 1])


def _folds(labels: Integers) -> Integers:
    """The fold of each labelled image: those of a class go to the folds in turn, (N,)."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks % NUM_FOLDS


def _shares(graph: Any, folds: Integers, alpha: float) -> NDArray[np.float64]:
    """The share of walks from each image of the graph that end in each fold: (G, NUM_FOLDS).

    F ← alpha · P F + (1 - alpha) · Y until it stays; the labelled images are the graph's first.
    """
    from scipy.sparse import diags_array

    degrees = np.asarray(graph.sum(axis=1)).ravel()
    steps = alpha * (diags_array(1 / np.where(degrees > 0, degrees, 1.0)) @ graph)
    ends = np.zeros((graph.shape[0], NUM_FOLDS))
    ends[np.arange(len(folds)), folds] = 1 - alpha
    shares = ends
    for _ in range(int(np.ceil(np.log(LEAST_SHARE / 10) / np.log(alpha)))):
        shares = steps @ shares + ends
    return shares


def _without_own_fold(
    shares: NDArray[np.float64], labels: Integers, folds: Integers
) -> NDArray[np.float64]:
    """Of walks from labelled images, those that end outside their fold, (N,), as of all images.

    A class has fewer labels then, so the share is scaled by how many fewer; NaN where none is left.
    """
    rows, same = np.arange(len(labels)), labels * NUM_FOLDS + folds
    num_of_class = np.bincount(labels)[labels]
    num_remaining = num_of_class - np.bincount(same)[same]
    scale = np.where(num_remaining > 0, num_of_class / np.maximum(num_remaining, 1), np.nan)
    outside: NDArray[np.float64] = (shares.sum(axis=1) - shares[rows, folds]) * scale
    return outside


def _score(shares: NDArray[np.float64]) -> Floats:
    return np.asarray(-np.log(np.maximum(shares, LEAST_SHARE)), np.float32)
