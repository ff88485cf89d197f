import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.labels import propagate
from pipeline.labels.align import alignment_shift
from pipeline.labels.propagate import (
    combine_with_neighbors,
    label_graph,
    neighbor_graph,
    propagate_labels,
    rows_of_each,
)
from pipeline.params import PropagationParams

Floats = NDArray[np.float32]


def near(num_neighbors: int, alpha: float) -> PropagationParams:
    return PropagationParams(num_neighbors=num_neighbors, alpha=alpha)


def some(rows: int, seed: int = 0, width: int = 6) -> Floats:
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def slow_graph(features: Floats, num_neighbors: int) -> NDArray[np.float64]:
    """Iscen et al. 2019, sec. 3.2, image by image."""
    points = features.astype(np.float64)
    count, graph = len(points), np.zeros((len(points), len(points)))
    for image in range(count):
        alike = [
            float(points[image] @ other / np.linalg.norm(points[image]) / np.linalg.norm(other))
            for other in points
        ]
        others = sorted((o for o in range(count) if o != image), key=lambda o: -alike[o])
        for other in others[:num_neighbors]:
            graph[image, other] = graph[other, image] = max(0.0, alike[other]) ** 3
    return graph


def propagated(
    labeled: Floats,
    labels: NDArray[np.int64],
    unlabeled: Floats,
    count: int,
    how: PropagationParams,
) -> Floats:
    """The share of each class that unlabelled images receive, all of them in the graph."""
    return label_graph(labeled, labels, unlabeled, count, how).shares(slice(len(labels), None))


def chain(length: int) -> Floats:
    """Two rows of points on a circle, opposite each other: (2 · length, 2), each a step apart."""
    angles = np.linspace(0, 1.4, length)
    both = np.concatenate([angles, angles + np.pi])
    return np.stack([np.cos(both), np.sin(both)], axis=1).astype(np.float32)


@pytest.mark.parametrize("num_neighbors", [1, 3, 40])
def test_the_graph_is_that_of_a_slow_loop(num_neighbors: int) -> None:
    features = some(30)
    graph = neighbor_graph(features, num_neighbors).toarray()
    np.testing.assert_allclose(graph, slow_graph(features, num_neighbors), atol=1e-6)


def test_copies_and_single_images_make_a_graph() -> None:
    copies = neighbor_graph(np.repeat(some(2), 4, axis=0), 3).toarray()
    np.testing.assert_allclose(copies[:4, :4], 1 - np.eye(4), atol=1e-6)
    assert neighbor_graph(some(1), 3).toarray().tolist() == [[0]]


@pytest.mark.parametrize("alpha", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("numbers_at_once", [1, 34 * 2, 1 << 20])
def test_what_is_passed_on_solves_the_equation(
    alpha: float, numbers_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(propagate, "MOST_NUMBERS", numbers_at_once)
    labeled, unlabeled = some(9), some(25, seed=1)
    labels = np.arange(9) % 3
    graph = slow_graph(np.concatenate([labeled, unlabeled]), 5)
    degrees = graph.sum(axis=1)
    scaled = graph / np.sqrt(degrees[:, None] * degrees)
    given = np.zeros((34, 3))
    given[np.arange(9), labels] = 1
    exact = np.linalg.solve(np.eye(34) - alpha * scaled, given)[9:]
    found = propagated(labeled, labels, unlabeled, 3, near(5, alpha))
    np.testing.assert_allclose(found, exact / exact.sum(axis=1, keepdims=True), atol=1e-4)


def test_labels_travel_along_a_chain_to_where_no_labelled_image_is_near() -> None:
    points = chain(20)
    labeled, labels = points[[0, 20]], np.array([0, 1])
    found = propagated(labeled, labels, points, 2, near(2, 0.99))
    assert found.argmax(axis=1).tolist() == [0] * 20 + [1] * 20


def test_an_image_that_nothing_reaches_has_equal_shares() -> None:
    labeled = np.array([[1, 0, 0], [0.9, 0.1, 0]], np.float32)
    alone = np.array([[0, 0, 1], [0, 0, 1.1], [1, 0.1, 0]], np.float32)
    found = propagated(labeled, np.array([0, 0]), alone, 4, near(1, 0.9))
    assert found[:2].tolist() == [[0.25] * 4] * 2
    assert found[2].tolist() == [1, 0, 0, 0]


def test_a_feature_of_zeros_is_near_to_nothing() -> None:
    labeled, zeros = np.eye(2, dtype=np.float32), np.zeros((3, 2), np.float32)
    found = propagated(labeled, np.arange(2), zeros, 2, near(2, 0.9))
    assert (found == 0.5).all()


def predictions(rows: int) -> Floats:
    logits = torch.from_numpy(some(rows, seed=5, width=3)) * 3
    return logits.log_softmax(dim=1).numpy()


def test_the_teacher_decides_by_its_weight() -> None:
    features = (some(9), np.arange(9) % 3, some(25, seed=1))
    teacher, silent = predictions(25), PropagationParams(teacher_weight=0)
    strong = PropagationParams(teacher_weight=1000)
    loud = combine_with_neighbors(teacher, *features, strong)
    assert (loud.argmax(axis=1) == teacher.argmax(axis=1)).all()
    one, other = (
        combine_with_neighbors(said, *features, silent) for said in (teacher, teacher[::-1])
    )
    np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(np.exp(loud).sum(axis=1), 1, rtol=1e-5)


def test_what_neighbours_say_has_the_shares_of_the_labels() -> None:
    features = (some(12), np.array([0] * 6 + [1] * 3 + [2] * 3), some(300, seed=1))
    silent, shares = PropagationParams(teacher_weight=0), np.array([0.5, 0.25, 0.25])
    found = combine_with_neighbors(predictions(300), *features, silent)
    np.testing.assert_allclose(np.exp(found).mean(axis=0), shares, rtol=0.006)


def test_stored_features_of_half_precision_say_nearly_the_same() -> None:
    labeled, labels, unlabeled = some(12), np.arange(12) % 3, some(100, seed=1)
    one, two = (
        combine_with_neighbors(
            predictions(100),
            labeled.astype(kind),
            labels,
            unlabeled.astype(kind),
            PropagationParams(num_neighbors=5),
        )
        for kind in (np.float32, np.float16)
    )
    np.testing.assert_allclose(np.exp(one), np.exp(two), atol=0.02)


def test_a_class_without_a_label_is_refused_by_its_number() -> None:
    features = (some(4), np.array([0, 0, 2, 2]), some(5))
    with pytest.raises(DataError, match=r"class number 1, .*predict\.propagation"):
        combine_with_neighbors(predictions(5), *features, PropagationParams())


@pytest.mark.parametrize("most", [5, 24])
def test_images_beside_the_graph_take_one_step_into_it(most: int) -> None:
    labeled, labels, unlabeled = some(12), np.arange(12) % 3, some(60, seed=1)
    how = PropagationParams(num_neighbors=4, teacher_weight=0)
    said = predictions(60)
    passed = propagate_labels(labeled, labels, unlabeled, 3, how, most_in_graph=most)
    known, inside = rows_of_each(labels, most), np.linspace(0, 59, most).astype(int)
    nodes = np.concatenate([labeled[known], unlabeled[inside]]).astype(np.float64)
    graph = slow_graph(nodes.astype(np.float32), 4)
    degrees = graph.sum(axis=1)
    given = np.zeros((len(nodes), 3))
    given[np.arange(len(known)), labels[known]] = 1
    scaled = graph / np.sqrt(degrees[:, None] * degrees)
    received = np.linalg.solve(np.eye(len(nodes)) - 0.9 * scaled, given)
    expected = np.empty((60, 3))
    points = nodes / np.linalg.norm(nodes, axis=1, keepdims=True)
    for row in range(60):
        alike = np.maximum(points @ (unlabeled[row] / np.linalg.norm(unlabeled[row])), 0) ** 3
        near = np.argsort(-alike)[:4]
        expected[row] = alike[near] @ (received[near] / np.sqrt(degrees[near, None]))
    expected[inside] = received[len(known) :]
    logs = np.log(expected / expected.sum(axis=1, keepdims=True) + 1e-6)
    shift = alignment_shift(logs[inside].astype(np.float32), np.full(3, 1 / 3))
    shares = np.exp(logs + shift)
    found = passed.combined(said, np.arange(60), unlabeled)
    np.testing.assert_allclose(
        np.exp(found), shares / shares.sum(axis=1, keepdims=True), rtol=0.01, atol=1e-5
    )
    parts = [passed.combined(said[r], r, unlabeled) for r in np.split(np.arange(60), [7, 8, 40])]
    np.testing.assert_allclose(np.concatenate(parts), found, rtol=1e-5)


def test_some_of_many_labels_are_as_many_of_each_class() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [500, 5, 60, 0]))
    labels = np.append(labels, 4)
    assert rows_of_each(labels, len(labels)).tolist() == list(range(len(labels)))
    rows = rows_of_each(labels, 100)
    assert (np.diff(rows) > 0).all()
    assert np.bincount(labels[rows]).tolist() == [47, 5, 47, 0, 1]
    of_first = np.searchsorted(np.flatnonzero(labels == 0), rows[labels[rows] == 0])
    assert set(np.diff(of_first).tolist()) <= {10, 11}
    assert np.bincount(labels[rows_of_each(labels, 1)]).tolist() == [1, 1, 1, 0, 1]
