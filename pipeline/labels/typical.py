"""Which images to label while labels are few: the typical one of each cluster of features.

TypiClust, Hacohen, Dekel & Weinshall 2022, "Active Learning on a Budget", sec. 3: as many clusters
as there will be labels, those without a label first and of these the largest, and of each the image
that lies densest. What a model doubts says little before it has seen a few of each class.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

DIMENSIONS = 64
# The paper's settings, sec. 3.3 and its published code.
NEIGHBORS = 20
MOST_CLUSTERS = 500
LEAST_MEMBERS = 5  # of a cluster that is asked before all larger ones were
FEW_CLUSTERS, BATCH = 50, 5000  # up to so many plain k-means, beyond it k-means on batches
ROWS_AT_ONCE = 1024  # compared with all of their cluster


@dataclass(frozen=True)
class Typical:
    """A chosen image: its row, its typicality, and how many images its cluster has."""

    row: int
    typicality: float
    members: int


def typical_rows(
    features: Floats, labeled: Flags, count: int, *, seed: int, most_clusters: int = MOST_CLUSTERS
) -> list[Typical]:
    """The `count` unlabelled images most worth a label, first the one to ask for first.

    features: (N, F); labeled: (N,), True where the label is known. Each goes to the cluster with
    the fewest known or asked for so far, of these the largest. Fewer where fewer are unlabelled.
    """
    clusters = clusters_of(features, min(count + int(labeled.sum()), most_clusters), seed=seed)
    remaining: dict[int, list[Typical]] = {}
    heap: list[tuple[bool, int, int, int]] = []
    for cluster in np.unique(clusters).tolist():
        rows = np.flatnonzero(clusters == cluster)
        remaining[cluster] = _densest_last(features, rows, labeled)
        known = int(labeled[rows].sum())
        heap.append((len(rows) < LEAST_MEMBERS, known, -len(rows), cluster))
    heapq.heapify(heap)
    picks: list[Typical] = []
    while heap and len(picks) < count:
        small, known, size, cluster = heapq.heappop(heap)
        if remaining[cluster]:
            picks.append(remaining[cluster].pop())
            heapq.heappush(heap, (small, known + 1, size, cluster))
    return picks


def typicality(features: Floats, neighbors: int = NEIGHBORS) -> Floats:
    """How densely each image lies: 1 / its mean distance to its nearest neighbours (eq. 1), (N,).

    features: (N, F). At most half of the others count as neighbours, at least one. An image alone
    has 0, one on top of its neighbours the largest finite number.
    """
    total = len(features)
    if total < 2:
        return np.zeros(total, np.float32)
    near = max(1, min(neighbors, total // 2))
    points = torch.from_numpy(features)
    density = np.empty(total, np.float32)
    for start in range(0, total, ROWS_AT_ONCE):
        part = points[start : start + ROWS_AT_ONCE]
        distances = torch.cdist(part, points, compute_mode="donot_use_mm_for_euclid_dist")
        distances[torch.arange(len(part)), torch.arange(start, start + len(part))] = torch.inf
        mean = distances.topk(near, dim=1, largest=False).values.mean(dim=1)
        density[start : start + len(part)] = (1 / mean).numpy()
    return np.minimum(density, np.finfo(np.float32).max)


def clusters_of(features: Floats, count: int, *, seed: int) -> Integers:
    """The cluster of each image by k-means, (N,); fewer than `count` where fewer differ."""
    from sklearn.cluster import KMeans, MiniBatchKMeans  # takes seconds to import
    from threadpoolctl import threadpool_limits

    count = min(count, len(np.unique(features, axis=0)))
    if count < 2:
        return np.zeros(len(features), np.int64)
    means = (
        KMeans(count, random_state=seed)
        if count <= FEW_CLUSTERS
        else MiniBatchKMeans(count, random_state=seed, batch_size=BATCH)
    )
    with threadpool_limits(1):  # several threads add up in an order that changes
        return np.asarray(means.fit_predict(features), np.int64)


def reduced(features: Floats, dimensions: int = DIMENSIONS) -> Floats:
    """The features (N, F) on their first principal components, at most so many: (N, D)."""
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    dimensions = min(dimensions, *features.shape)
    if dimensions == features.shape[1]:
        return np.asarray(features, np.float32)
    with threadpool_limits(1):
        parts = PCA(dimensions, svd_solver="covariance_eigh").fit_transform(features)
    return np.ascontiguousarray(parts, np.float32)


def _densest_last(features: Floats, rows: Integers, labeled: Flags) -> list[Typical]:
    """The unlabelled images of one cluster, the most typical last; of equals the earlier row."""
    dense = typicality(features[rows])
    order = np.lexsort((-rows, dense)).tolist()
    return [
        Typical(int(rows[place]), float(dense[place]), len(rows))
        for place in order
        if not labeled[rows[place]]
    ]
