"""The nearest neighbours of images by the cosine of their features, exact or approximate.

Up to EXACT_IMAGES all pairs are compared. Beyond, the features' principal components are searched
in the nearest of the cells that k-means finds (Jégou, Douze & Schmid 2011, sec. IV), and the best
candidates are ranked by the whole features. Both are Faiss (Douze et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Search = Callable[[Floats], tuple[Floats, Integers]]

EXACT_IMAGES = 50_000
COMPONENTS = 128
CELLS_SEARCHED = 32
CANDIDATES = 3  # times as many as neighbours are ranked by whole features
LEAST_OF_CELL = 39  # images a cell that k-means is trained on; Faiss warns of fewer
TRAINING_IMAGES = 100_000
ROWS_AT_ONCE = 16_384  # of float32 beside the features


class Neighbors(NamedTuple):
    """The nearest images of each of M images, the nearest first: cosines and rows, (M, k) each.

    Where an approximate search finds fewer than k, the rest has cosine 0 and row 0.
    """

    cosines: Floats
    rows: Integers


def nearest_neighbors(
    features: NDArray[Any],
    count: int,
    *,
    queries: NDArray[Any] | None = None,
    threads: int = 1,
    exact_images: int = EXACT_IMAGES,
) -> Neighbors:
    """The `count` of `features` nearest to each of `queries`; all where there are fewer.

    features: (N, F), queries: (M, F), of any precision and length; one of length 0 has cosine 0
    with all. Without queries, of each of `features` the nearest others. More than `exact_images`
    features are searched approximately. The same input and threads give the same bytes.
    """
    if queries is not None:
        return neighbor_search(features, count, threads=threads, exact_images=exact_images)(queries)
    search = neighbor_search(features, count + 1, threads=threads, exact_images=exact_images)
    return _without_itself(*search(features))


def neighbor_search(
    features: NDArray[Any], count: int, *, threads: int = 1, exact_images: int = EXACT_IMAGES
) -> Callable[[NDArray[Any]], Neighbors]:
    """What finds the `count` of `features` nearest to each of some queries, again and again; as
    nearest_neighbors."""
    from threadpoolctl import threadpool_limits

    wanted = min(count, len(features))
    with threadpool_limits(threads):
        search = (_exact if len(features) <= exact_images else _approximate)(features, wanted)

    def find(queries: NDArray[Any]) -> Neighbors:
        with threadpool_limits(threads):
            parts = [search(part) for part in _unit_parts(queries)]
        cosines = np.concatenate([np.empty((0, wanted), np.float32), *(part[0] for part in parts)])
        rows = np.concatenate([np.empty((0, wanted), np.int64), *(part[1] for part in parts)])
        return Neighbors(cosines, rows)

    return find


def _unit_parts(features: NDArray[Any]) -> Iterator[Floats]:
    """`features` (N, F) at length 1, ROWS_AT_ONCE at a time; those of length 0 stay."""
    for start in range(0, len(features), ROWS_AT_ONCE):
        part = np.array(features[start : start + ROWS_AT_ONCE], np.float32, order="C")
        lengths = np.linalg.norm(part, axis=1, keepdims=True)
        yield np.divide(part, lengths, out=part, where=lengths > 0)


def _exact(features: NDArray[Any], wanted: int) -> Search:
    import faiss

    if not wanted:
        return lambda part: (np.empty((len(part), 0), np.float32), np.empty((len(part), 0), int))
    points = np.concatenate(list(_unit_parts(features)))
    return lambda part: faiss.knn(part, points, wanted, metric=faiss.METRIC_INNER_PRODUCT)


def _approximate(features: NDArray[Any], wanted: int) -> Search:
    """A search by squared distances of unit vectors, 2 - 2 cosines, whose order is the same."""
    import faiss

    total, width = features.shape
    cells = min(2 ** round(np.log2(4 * np.sqrt(total))), total // LEAST_OF_CELL)
    training = max(TRAINING_IMAGES, LEAST_OF_CELL * cells)
    some = features[:: max(1, total // training)]
    shorter = f"PCA{COMPONENTS}," if width > COMPONENTS else ""
    index = faiss.index_factory(width, f"{shorter}IVF{cells},Flat,Refine(SQfp16)")
    index.train(np.concatenate(list(_unit_parts(some))))
    faiss.extract_index_ivf(index).nprobe = CELLS_SEARCHED
    faiss.ParameterSpace().set_index_parameter(index, "k_factor_rf", CANDIDATES)
    has_length = np.ones(total, np.bool_)
    for start, part in zip(range(0, total, ROWS_AT_ONCE), _unit_parts(features), strict=True):
        index.add(part)
        has_length[start : start + len(part)] = part.any(axis=1)

    def search(part: Floats) -> tuple[Floats, Integers]:
        distances, rows = index.search(part, wanted)
        near = (rows >= 0) & has_length[rows] & part.any(axis=1, keepdims=True)
        return np.where(near, 1 - distances / 2, 0).astype(np.float32), np.maximum(rows, 0)

    return search


def _without_itself(cosines: Floats, rows: Integers) -> Neighbors:
    """Each image's neighbours but itself; (N, k + 1) to (N, k).

    Among more copies of an image than were wanted it may be missing; then the last goes.
    """
    itself = rows == np.arange(len(rows))[:, None]
    itself[~itself.any(axis=1), -1:] = True
    shape = (len(rows), max(0, rows.shape[1] - 1))
    return Neighbors(cosines[~itself].reshape(shape), rows[~itself].reshape(shape))
