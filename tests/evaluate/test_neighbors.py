"""The nearest neighbours are those of a loop over pairs, and of scikit-learn on more images."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from pipeline.evaluate.neighbors import nearest_neighbors

Floats = NDArray[np.float32]


def some(rows: int, seed: int = 0, width: int = 6) -> Floats:
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def clusters(rows: int, seed: int = 0, width: int = 160) -> Floats:
    """Features around 40 directions, as those of images of some kinds are."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(40, width))
    own = centres[draw.integers(0, 40, rows)] + 0.5 * draw.normal(size=(rows, width))
    return own.astype(np.float32)


def recall(found: NDArray[np.int64], expected: NDArray[np.int64]) -> float:
    pairs = zip(found.tolist(), expected.tolist(), strict=True)
    return float(np.mean([len(set(one) & set(two)) / len(two) for one, two in pairs]))


@pytest.mark.parametrize("count", [1, 4, 29])
def test_others_are_those_of_a_loop_over_pairs(count: int) -> None:
    features = some(30)
    cosines, rows = nearest_neighbors(features, count)
    assert [found.dtype for found in (cosines, rows)] == [np.float32, np.int64]
    for image, point in enumerate(features.astype(np.float64)):
        alike = {
            other: float(point @ peer / np.linalg.norm(point) / np.linalg.norm(peer))
            for other, peer in enumerate(features)
            if other != image
        }
        expected = sorted(alike, key=lambda other: -alike[other])[:count]
        assert rows[image].tolist() == expected
        np.testing.assert_allclose(cosines[image], [alike[o] for o in expected], atol=1e-6)


def test_queries_are_compared_with_the_features_alone() -> None:
    features, queries = some(50), some(20, seed=1)
    cosines, rows = nearest_neighbors(features, 5, queries=queries)
    peer = NearestNeighbors(n_neighbors=5, metric="cosine").fit(features)
    distances, expected = peer.kneighbors(queries)
    assert (rows == expected).all()
    np.testing.assert_allclose(cosines, 1 - distances, atol=1e-6)


def test_half_precision_is_compared_in_single() -> None:
    features = some(40).astype(np.float16)
    found = nearest_neighbors(features, 6)
    assert (found.rows == nearest_neighbors(features.astype(np.float32), 6).rows).all()


def test_no_image_is_its_own_neighbour_among_copies_either() -> None:
    features = np.repeat(some(3), 20, axis=0)
    cosines, rows = nearest_neighbors(features, 5)
    assert rows.shape == (60, 5)
    assert not (rows == np.arange(60)[:, None]).any()
    assert (rows // 20 == np.arange(60)[:, None] // 20).all()
    np.testing.assert_allclose(cosines, 1, atol=1e-6)


@pytest.mark.parametrize("exact_images", [500, 0])
def test_an_image_of_length_zero_is_near_to_none(exact_images: int) -> None:
    features = clusters(400)
    features[[7, 300]] = 0
    cosines, rows = nearest_neighbors(features, 20, exact_images=exact_images)
    assert (cosines[[7, 300]] == 0).all()
    assert (cosines[np.isin(rows, [7, 300])] == 0).all()
    assert (cosines[0] > 0).any()


def test_few_images_and_none_have_as_many_neighbours_as_there_are() -> None:
    assert nearest_neighbors(some(1), 5).rows.shape == (1, 0)
    assert nearest_neighbors(some(0), 5).rows.shape == (0, 0)
    assert nearest_neighbors(some(3), 5).rows.shape == (3, 2)
    assert nearest_neighbors(some(3), 5, queries=some(0)).rows.shape == (0, 3)


def test_an_approximate_search_finds_nearly_all() -> None:
    features = clusters(3000)
    exact = nearest_neighbors(features, 10)
    found = nearest_neighbors(features, 10, exact_images=0)
    assert recall(found.rows, exact.rows) > 0.95
    assert not (found.rows == np.arange(3000)[:, None]).any()
    same = found.rows[:, 0] == exact.rows[:, 0]
    np.testing.assert_allclose(found.cosines[same, 0], exact.cosines[same, 0], atol=2e-3)


@pytest.mark.parametrize(("threads", "exact_images"), [(1, 3000), (2, 3000), (1, 0), (2, 0)])
def test_a_search_repeats_to_the_byte(threads: int, exact_images: int) -> None:
    features = np.repeat(clusters(500), 3, axis=0)  # copies, whose order nothing else decides
    one, two = (
        nearest_neighbors(features, 7, threads=threads, exact_images=exact_images) for _ in range(2)
    )
    assert one.rows.tobytes() == two.rows.tobytes()
    assert one.cosines.tobytes() == two.cosines.tobytes()
