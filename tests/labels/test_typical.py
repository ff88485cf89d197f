"""The typical images are those of a slow reading of TypiClust, and they cover the clusters."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.labels.typical import (
    Flags,
    Floats,
    clusters_of,
    reduced,
    typical_rows,
    typicality,
)

CENTRES = np.array([[0, 0], [20, 0], [0, 20], [20, 20]], np.float32)
SIZES = (40, 30, 20, 10)


def blobs(seed: int = 0) -> tuple[Floats, list[int]]:
    """Points around four centres, 40, 30, 20 and 10 of them, shuffled, and whose each is."""
    draw = np.random.default_rng(seed)
    owners = draw.permutation(np.repeat(np.arange(4), SIZES))
    return (CENTRES[owners] + draw.normal(0, 1, (100, 2))).astype(np.float32), owners.tolist()


def none_labeled(count: int = 100) -> Flags:
    return np.zeros(count, np.bool_)


def slow_typicality(features: Floats, neighbors: int) -> list[float]:
    found = []
    for row, point in enumerate(features):
        others = np.delete(features, row, axis=0)
        near = sorted(float(np.linalg.norm(other - point)) for other in others)
        found.append(1 / float(np.mean(near[:neighbors])))
    return found


def test_typicality_is_one_over_the_mean_distance_to_the_nearest() -> None:
    features, _ = blobs()
    np.testing.assert_allclose(typicality(features), slow_typicality(features, 20), rtol=1e-5)
    np.testing.assert_allclose(
        typicality(features[:9]), slow_typicality(features[:9], 4), rtol=1e-5
    )


def test_typicality_is_defined_for_one_image_and_for_copies() -> None:
    assert typicality(np.ones((1, 3), np.float32)).tolist() == [0]
    copies = typicality(np.ones((4, 3), np.float32))
    assert np.isfinite(copies).all()
    assert (copies > 0).all()


def test_without_labels_each_cluster_is_asked_for_once_the_largest_first() -> None:
    features, owners = blobs()
    chosen = typical_rows(features, none_labeled(), 4, seed=0)
    assert [owners[pick.row] for pick in chosen] == [0, 1, 2, 3]
    assert [pick.members for pick in chosen] == list(SIZES)
    for number, pick in enumerate(chosen):
        rows = [row for row, owner in enumerate(owners) if owner == number]
        slow = slow_typicality(features[rows], min(20, len(rows) // 2))
        assert pick.row == rows[int(np.argmax(slow))]
        assert pick.typicality == pytest.approx(max(slow), rel=1e-5)


def test_clusters_with_a_label_come_last() -> None:
    features, owners = blobs()
    labeled = none_labeled()
    labeled[[owners.index(0), owners.index(2)]] = True
    chosen = typical_rows(features, labeled, 4, seed=0, most_clusters=4)
    assert [owners[pick.row] for pick in chosen] == [1, 3, 0, 1]
    assert len({pick.row for pick in chosen}) == 4
    assert not labeled[[pick.row for pick in chosen]].any()


def test_a_tiny_cluster_comes_after_all_others() -> None:
    features, _ = blobs()
    lonely = np.concatenate([features, np.array([[90, 90], [90, 91]], np.float32)])
    chosen = typical_rows(lonely, none_labeled(102), 7, seed=0, most_clusters=5)
    assert [pick.row < 100 for pick in chosen] == [True] * 7
    rows = [pick.row for pick in typical_rows(lonely, none_labeled(102), 102, seed=0)]
    assert sorted(rows) == list(range(102))


def test_no_more_than_there_are_and_the_same_again() -> None:
    features, _ = blobs()
    labeled = none_labeled()
    labeled[:60] = True
    first = typical_rows(features, labeled, 70, seed=3)
    assert sorted(pick.row for pick in first) == list(range(60, 100))
    assert first == typical_rows(features, labeled, 70, seed=3)
    assert typical_rows(features[:1], none_labeled(1), 2, seed=0)[0].row == 0


@pytest.mark.parametrize("count", [4, 60])
def test_clusters_are_those_that_there_are(count: int) -> None:
    features, owners = blobs()
    clusters = clusters_of(features, count, seed=0)
    assert len(np.unique(clusters)) <= count
    for cluster in np.unique(clusters).tolist():
        inside = {owners[row] for row in np.flatnonzero(clusters == cluster).tolist()}
        assert len(inside) == 1
    same = np.repeat(features[:3], 5, axis=0)
    assert len(np.unique(clusters_of(same, 10, seed=0))) == 3


def test_reduced_features_keep_distances_of_what_has_few_dimensions() -> None:
    features, _ = blobs()
    turned = features @ np.linalg.qr(np.random.default_rng(1).normal(size=(9, 9)))[0][:2]
    small = reduced(turned.astype(np.float32), 2)
    assert small.shape == (100, 2)
    np.testing.assert_allclose(typicality(small), typicality(features), rtol=1e-3)
    assert reduced(features, 64) is features
