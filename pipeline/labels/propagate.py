"""Label propagation: what labelled images say of others across a graph of nearest neighbours.

Zhou et al. 2004 on a network's features, with the graph of Iscen et al. 2019 (sec. 3.2): a teacher
may misread a way of writing a class that lies beside that class all the same. Of more images than
one machine holds the graph of, some make it, and the others take one step into it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.evaluate.neighbors import Neighbors, nearest_neighbors, neighbor_search
from pipeline.labels.align import Floats, aligned, alignment_shift
from pipeline.params import PropagationParams

Integers = NDArray[np.int64]

GAMMA = 3  # power of a similarity that is the weight of an edge, Iscen et al. 2019, eq. 9
LEAST_SHARE = 1e-6  # of a class: what neighbours say rules nothing out
MAX_ROUNDS, TOLERANCE = 2000, 1e-6
MOST_IN_GRAPH = 100_000  # labelled images, and unlabelled ones; some 1,500 bytes each
MOST_NUMBERS = 1 << 25  # images × classes that are propagated at once, 8 bytes each


class FeatureRows(Protocol):
    """Features (N, F) of images, in memory or read as they are asked for (StoredFeatures)."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Integers, /) -> NDArray[Any]:
        """(n, F) of rows (n,) in ascending order."""


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


@dataclass(frozen=True)
class LabelGraph:
    """What labelled images have passed on across a graph of G images, the labelled ones first.

    features: (G, F); received: (G, K) of each class; degrees: (G,).
    """

    features: NDArray[Any]
    received: Floats
    degrees: NDArray[np.float64]
    num_neighbors: int
    threads: int

    def shares(self, rows: slice) -> Floats:
        """The share of each class in what these images of the graph have received."""
        return _shares(self.received[rows])

    def shares_beside(self, features: NDArray[Any]) -> Floats:
        """The same of images beside the graph, (n, K), that receive in one step from the nearest of
        it; features: (n, F).

        It is the graph's equation in the row of such an image, of which nothing goes back (as
        Delalleau et al. 2005, eq. 7).
        """
        near = self._search(features)
        weights = near.cosines.clip(min=0) ** np.float32(GAMMA)
        received = np.zeros((len(features), self._passed.shape[1]), np.float32)
        for place in range(weights.shape[1]):
            received += weights[:, place, None] * self._passed[near.rows[:, place]]
        return _shares(received)

    @cached_property
    def _search(self) -> Callable[[NDArray[Any]], Neighbors]:
        return neighbor_search(self.features, self.num_neighbors, threads=self.threads)

    @cached_property
    def _passed(self) -> Floats:
        passed: Floats = (self.received * _root_inverse(self.degrees)[:, None]).astype(np.float32)
        return passed


def label_graph(
    labeled_features: NDArray[Any],
    labels: Integers,
    unlabeled_features: NDArray[Any],
    num_classes: int,
    params: PropagationParams,
    *,
    threads: int = 1,
) -> LabelGraph:
    """Pass labels on: labeled_features (N, F), labels (N,), to unlabeled_features (M, F).

    Z ← alpha · S Z + (1 - alpha) · Y until it stays, S the graph with rows and columns scaled by
    their degrees (Zhou et al. 2004, eq. 3).
    """
    features = np.concatenate([labeled_features, unlabeled_features])
    graph = neighbor_graph(features, params.num_neighbors, threads=threads)
    degrees = np.asarray(graph.sum(axis=1)).ravel()
    alpha, spread = params.alpha, params.alpha * _normalized(graph, degrees)
    del graph
    received = np.empty((len(features), num_classes), np.float32)
    at_once = max(1, MOST_NUMBERS // spread.shape[0])
    for first in range(0, num_classes, at_once):
        classes = np.arange(first, min(first + at_once, num_classes))
        sources = np.zeros((spread.shape[0], len(classes)))
        sources[: len(labels)] = (1 - alpha) * (labels[:, None] == classes)
        received[:, classes] = _fixed_point(spread, sources, TOLERANCE * (1 - alpha))
    return LabelGraph(features, received, degrees, params.num_neighbors, threads)


@dataclass(frozen=True)
class PropagatedLabels:
    """What labelled images pass on to M unlabelled ones.

    rows: (R,) those in the graph, ascending; log_shares: (R, K) of them, aligned; shift: (K,) by
    which those of the others are.
    """

    graph: LabelGraph
    rows: Integers
    log_shares: Floats
    shift: NDArray[np.float64]
    teacher_weight: float

    def combined(self, log_probs: Floats, rows: Integers, features: FeatureRows) -> Floats:
        """A teacher's predictions of some images (n, K), weighted, times what the neighbours say;
        log of shares again.

        rows: (n,) which of the M, ascending; features: of all M.
        """
        places = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        inside = self.rows[places] == rows
        log_shares = self.log_shares[places]
        if not inside.all():
            beside = self.graph.shares_beside(features[rows[~inside]])
            log_shares[~inside] = aligned(_logs(beside), self.shift)
        return aligned(self.teacher_weight * log_probs + log_shares, np.zeros(len(self.shift)))


def propagate_labels(
    labeled_features: FeatureRows,
    labels: Integers,
    unlabeled_features: FeatureRows,
    num_classes: int,
    params: PropagationParams,
    *,
    threads: int = 1,
    most_in_graph: int | None = None,
) -> PropagatedLabels:
    """Pass labels on to unlabelled images, (M, F), M > 0; labeled_features (N, F), labels (N,).

    In the graph are at most `most_in_graph` (MOST_IN_GRAPH) images of either kind: labelled ones
    evenly of each class, unlabelled ones evenly spaced. What neighbours say is moved to the labels'
    shares of the classes, without which the class whose labelled images lie densest takes most.
    Raises DataError where a class has no labelled image.
    """
    counts = np.bincount(labels, minlength=num_classes)
    if not counts.all():
        raise DataError(
            f"no labelled image of class number {int(counts.argmin())}, so nothing of it can be "
            "passed on; set predict.propagation to null"
        )
    most = MOST_IN_GRAPH if most_in_graph is None else most_in_graph
    known, rows = rows_of_each(labels, most), evenly_spaced(len(unlabeled_features), most)
    graph = label_graph(
        labeled_features[known],
        labels[known],
        unlabeled_features[rows],
        num_classes,
        params,
        threads=threads,
    )
    log_shares = _logs(graph.shares(slice(len(known), None)))
    shift = alignment_shift(log_shares, counts / counts.sum())
    return PropagatedLabels(graph, rows, aligned(log_shares, shift), shift, params.teacher_weight)


def combine_with_neighbors(
    log_probs: Floats,
    labeled_features: NDArray[Any],
    labels: Integers,
    unlabeled_features: NDArray[Any],
    params: PropagationParams,
    *,
    threads: int = 1,
) -> Floats:
    """The predictions of all unlabelled images, (M, K), as PropagatedLabels.combined makes them."""
    passed = propagate_labels(
        labeled_features, labels, unlabeled_features, log_probs.shape[1], params, threads=threads
    )
    return passed.combined(log_probs, np.arange(len(log_probs)), unlabeled_features)


def evenly_spaced(count: int, most: int) -> Integers:
    """All rows of so many, or `most` of them."""
    if count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).astype(np.int64)


def rows_of_each(labels: Integers, most: int) -> Integers:
    """All rows of `labels` (N,), or about `most`: of each class as many, or all that it has, evenly
    spaced, and at least one."""
    if len(labels) <= most:
        return np.arange(len(labels))
    counts: Integers = np.bincount(labels)
    fit = bisect_right(range(most + 1), most, key=lambda each: int(counts.clip(max=each).sum())) - 1
    wanted, order = counts.clip(max=max(fit, 1)), np.argsort(labels, kind="stable")
    ranks = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    of_class = wanted[labels[order]], counts[labels[order]]
    is_step = (ranks + 1) * of_class[0] // of_class[1] > ranks * of_class[0] // of_class[1]
    rows: Integers = np.sort(order[is_step])
    return rows


def _shares(received: Floats) -> Floats:
    """What was received of each class (n, K) as shares; equal ones where that is nothing."""
    total = received.sum(axis=1, keepdims=True)
    shares: Floats = np.full_like(received, 1 / received.shape[1])
    np.divide(received, total, out=shares, where=total > 0)
    return shares


def _logs(shares: Floats) -> Floats:
    logs: Floats = np.log(shares + LEAST_SHARE).astype(np.float32)
    return logs


def _root_inverse(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Degrees to the power -1/2; 1 of images without an edge."""
    root: NDArray[np.float64] = np.where(degrees > 0, degrees, 1.0) ** -0.5
    return root


def _normalized(graph: Any, degrees: NDArray[np.float64]) -> Any:
    """D^-1/2 W D^-1/2 of the graph W, D its degrees; images without an edge stay so."""
    from scipy.sparse import diags_array

    scale = diags_array(_root_inverse(degrees))
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
