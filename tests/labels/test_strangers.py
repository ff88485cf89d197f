from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.labels.strangers import (
    NUM_FOLDS,
    find_strangers,
    stranger_scores,
    stranger_threshold,
)
from tests.labels.test_propagate import slow_graph

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


def clusters(counts: list[int], *, seed: int = 0, width: int = 12) -> tuple[Floats, Integers]:
    """Points around so many centres that stand at right angles: features (N, F), classes (N,)."""
    draw = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    points = np.eye(width)[labels] + draw.normal(0, 0.12, (len(labels), width))
    return points.astype(np.float32), labels


def walked(graph: NDArray[np.float64], ends: list[int], alpha: float) -> NDArray[np.float64]:
    """The share of walks from each image that end in `ends`: the equation solved, not iterated."""
    steps = graph / graph.sum(axis=1, keepdims=True)
    is_end = np.isin(np.arange(len(graph)), ends)
    return np.linalg.solve(np.eye(len(graph)) - alpha * steps, (1 - alpha) * is_end)


@pytest.mark.parametrize("alpha", [0.5, 0.8])
def test_scores_are_the_walks_of_a_slow_loop(alpha: float) -> None:
    known, labels = clusters([12, 3, 1], seed=1)
    queries, _ = clusters([9, 9, 9, 9], seed=2)
    found = stranger_scores(known, labels, queries, num_neighbors=4, alpha=alpha)
    graph = slow_graph(np.concatenate([known, queries]), 4)
    everyone = list(range(len(known)))
    shares = walked(graph, everyone, alpha)
    expected = -np.log(np.maximum(shares[len(known) :], 1e-6))
    np.testing.assert_allclose(found.unlabeled, expected, rtol=1e-3)
    fold = [int((labels[:row] == labels[row]).sum()) % NUM_FOLDS for row in everyone]
    for row in everyone:
        of_class = [other for other in everyone if labels[other] == labels[row]]
        left = [other for other in of_class if fold[other] != fold[row]]
        if not left:
            assert np.isnan(found.labeled[row])
            continue
        ends = [other for other in everyone if fold[other] != fold[row]]
        share = walked(graph, ends, alpha)[row] * len(of_class) / len(left)
        assert found.labeled[row] == pytest.approx(-np.log(max(share, 1e-6)), rel=1e-3)


def test_images_outside_the_graph_take_one_step_into_it() -> None:
    known, labels = clusters([5, 5], seed=1)
    queries, _ = clusters([20, 20, 20], seed=2)
    found = stranger_scores(known, labels, queries, num_neighbors=4, most_in_graph=15)
    inside = np.linspace(0, 59, 15).astype(int)
    alone = stranger_scores(known, labels, queries[inside], num_neighbors=4)
    np.testing.assert_array_equal(found.unlabeled[inside], alone.unlabeled)
    np.testing.assert_array_equal(found.labeled, alone.labeled)
    points = np.concatenate([known, queries[inside]]).astype(np.float64)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    shares = walked(slow_graph(np.concatenate([known, queries[inside]]), 4), list(range(10)), 0.8)
    for row in set(range(60)) - set(inside.tolist()):
        alike = points @ (queries[row] / np.linalg.norm(queries[row]))
        near = np.argsort(-alike)[:4]
        share = 0.8 * np.average(shares[near], weights=np.maximum(alike[near], 0) ** 3)
        assert found.unlabeled[row] == pytest.approx(-np.log(max(share, 1e-6)), rel=2e-3)


@pytest.mark.parametrize("num_strangers", [0, 30, 120])
def test_strangers_are_found_and_images_of_the_classes_are_not(num_strangers: int) -> None:
    known, labels = clusters([10] * 4, seed=3)
    queries, truth = clusters([60] * 4 + [num_strangers] * 2, seed=4)
    found = find_strangers(known, labels, queries)
    assert found[truth >= 4].all()
    assert found[truth < 4].mean() <= 0.05


def test_float16_memory_maps_do_and_the_order_of_queries_is_of_no_matter(tmp_path: Path) -> None:
    known, labels = clusters([6, 6], seed=5)
    queries, _ = clusters([15, 15, 15], seed=6)
    np.save(tmp_path / "features.npy", queries.astype(np.float16))
    stored = np.load(tmp_path / "features.npy", mmap_mode="r")
    whole = stranger_scores(known, labels, queries, num_neighbors=5).unlabeled
    halved = stranger_scores(known.astype(np.float16), labels, stored, num_neighbors=5).unlabeled
    np.testing.assert_allclose(halved, whole, rtol=0.02)
    order = np.random.default_rng(7).permutation(len(queries))
    other = stranger_scores(known, labels, queries[order], num_neighbors=5).unlabeled
    np.testing.assert_allclose(other, whole[order], rtol=1e-4)


def test_the_threshold_leaves_the_promised_share_of_images_like_the_labelled() -> None:
    draw = np.random.default_rng(8)
    lost = [
        (
            draw.normal(size=500) > stranger_threshold(draw.normal(size=60).astype(np.float32), 0.1)
        ).mean()
        for _ in range(300)
    ]
    assert np.mean(lost) == pytest.approx(6 / 61, abs=0.01)  # the 55th of 60 is the threshold


def test_of_few_labels_the_largest_score_is_the_threshold_and_of_none_nothing_is_strange() -> None:
    scores = np.array([0.3, 2.0, np.nan, 0.7], np.float32)
    assert stranger_threshold(scores) == 2.0
    assert stranger_threshold(scores, 0.5) == pytest.approx(0.7)
    assert stranger_threshold(np.full(3, np.nan, np.float32)) == np.inf
    known, labels = clusters([1, 1])
    queries, _ = clusters([0, 0, 30])
    assert not find_strangers(known, labels, queries).any()
    assert find_strangers(known, labels, queries[:0]).shape == (0,)
