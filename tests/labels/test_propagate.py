from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.data.predictions import read_predictions
from pipeline.data.shards import read_manifest, read_shard
from pipeline.data.tensors import load_images
from pipeline.errors import DataError
from pipeline.labels.pool import network_features
from pipeline.labels.predict import finish_predictions, predict_folder
from pipeline.labels.propagate import joined, neighbor_graph, propagate_folder, propagated
from pipeline.models.checkpoint import load_checkpoint
from pipeline.params import PropagationParams
from tests.tiny import prepared_stripes, save_model

Floats = NDArray[np.float32]


def some(rows: int, seed: int = 0, width: int = 6) -> Floats:
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def slow_graph(features: Floats, neighbors: int) -> NDArray[np.float64]:
    """Iscen et al. 2019, sec. 3.2, image by image."""
    points = features.astype(np.float64)
    count, graph = len(points), np.zeros((len(points), len(points)))
    for image in range(count):
        alike = [
            float(points[image] @ other / np.linalg.norm(points[image]) / np.linalg.norm(other))
            for other in points
        ]
        others = sorted((o for o in range(count) if o != image), key=lambda o: -alike[o])
        for other in others[:neighbors]:
            graph[image, other] = graph[other, image] = max(0.0, alike[other]) ** 3
    return graph


def chain(length: int) -> Floats:
    """Two rows of points on a circle, opposite each other: (2 · length, 2), each a step apart."""
    angles = np.linspace(0, 1.4, length)
    both = np.concatenate([angles, angles + np.pi])
    return np.stack([np.cos(both), np.sin(both)], axis=1).astype(np.float32)


@pytest.mark.parametrize("neighbors", [1, 3, 40])
def test_the_graph_is_that_of_a_slow_loop(neighbors: int) -> None:
    features = some(30)
    graph = neighbor_graph(features, neighbors).toarray()
    np.testing.assert_allclose(graph, slow_graph(features, neighbors), atol=1e-6)


@pytest.mark.parametrize("reach", [0.5, 0.9, 0.99])
def test_what_is_passed_on_solves_the_equation(reach: float) -> None:
    known, asked = some(9), some(25, seed=1)
    labels = np.arange(9) % 3
    graph = slow_graph(np.concatenate([known, asked]), 5)
    degrees = graph.sum(axis=1)
    scaled = graph / np.sqrt(degrees[:, None] * degrees)
    given = np.zeros((34, 3))
    given[np.arange(9), labels] = 1
    exact = np.linalg.solve(np.eye(34) - reach * scaled, given)[9:]
    found = propagated(known, labels, asked, 3, neighbors=5, reach=reach)
    np.testing.assert_allclose(found, exact / exact.sum(axis=1, keepdims=True), atol=1e-4)


def test_labels_travel_along_a_chain_to_where_no_labelled_image_is_near() -> None:
    points = chain(20)
    known, labels = points[[0, 20]], np.array([0, 1])
    found = propagated(known, labels, points, 2, neighbors=2, reach=0.99)
    assert found.argmax(axis=1).tolist() == [0] * 20 + [1] * 20


def test_an_image_that_nothing_reaches_has_equal_shares() -> None:
    known = np.array([[1, 0, 0], [0.9, 0.1, 0]], np.float32)
    alone = np.array([[0, 0, 1], [0, 0, 1.1], [1, 0.1, 0]], np.float32)
    found = propagated(known, np.array([0, 0]), alone, 4, neighbors=1, reach=0.9)
    assert found[:2].tolist() == [[0.25] * 4] * 2
    assert found[2].tolist() == [1, 0, 0, 0]


def test_a_feature_of_zeros_is_near_to_nothing() -> None:
    known = np.array([[1, 0], [0, 1]], np.float32)
    found = propagated(known, np.arange(2), np.zeros((3, 2), np.float32), 2, neighbors=2, reach=0.9)
    assert (found == 0.5).all()


def predictions(rows: int) -> Floats:
    logits = torch.from_numpy(some(rows, seed=5, width=3)) * 3
    return logits.log_softmax(dim=1).numpy()


def test_the_teacher_decides_by_its_weight() -> None:
    known, asked, labels = some(9), some(25, seed=1), np.arange(9) % 3
    teacher = predictions(25)
    strong = joined(teacher, known, labels, asked, PropagationParams(teacher_weight=1000.0))
    assert (strong.argmax(axis=1) == teacher.argmax(axis=1)).all()
    silent = joined(teacher, known, labels, asked, PropagationParams(teacher_weight=0.0))
    other = joined(predictions(25)[::-1], known, labels, asked, PropagationParams(teacher_weight=0))
    np.testing.assert_array_equal(silent, other)
    np.testing.assert_allclose(np.exp(strong).sum(axis=1), 1, rtol=1e-5)


def test_what_neighbours_say_has_the_labels_shares_of_the_classes() -> None:
    known, asked, labels = some(12), some(300, seed=1), np.array([0] * 6 + [1] * 3 + [2] * 3)
    said = joined(predictions(300), known, labels, asked, PropagationParams(teacher_weight=0.0))
    np.testing.assert_allclose(np.exp(said).mean(axis=0), [0.5, 0.25, 0.25], rtol=0.006)


def test_a_class_without_a_label_is_refused_by_its_number() -> None:
    how = (some(4), np.array([0, 0, 2, 2]), some(5), PropagationParams())
    with pytest.raises(DataError, match=r"class number 1, .*predict\.propagation"):
        joined(predictions(5), *how)


def test_a_folder_keeps_its_images_and_is_joined_with_all_of_them(tmp_path: Path) -> None:
    prepared = prepared_stripes(tmp_path / "prepared")
    save_model(tmp_path / "teacher", seed=1)
    unlabeled, labeled = prepared / "unlabeled", prepared / "labeled"
    how: dict[str, Any] = {"batch_size": 16, "threads": 1}
    predict_folder(tmp_path / "teacher", unlabeled, tmp_path / "alone", **how)
    network = load_checkpoint(tmp_path / "teacher").network
    see = network_features(network, mean=(0.3,), std=(0.25,), batch_size=16)
    seen: list[int] = []

    def advance(amount: int = 1, note: str = "") -> None:
        seen.append(amount)

    propagate_folder(
        tmp_path / "alone",
        tmp_path / "together",
        unlabeled=unlabeled,
        labeled=labeled,
        see=see,
        how=PropagationParams(neighbors=5),
        advance=advance,
    )
    finish_predictions(unlabeled, tmp_path / "together", 3)
    before, after = (list(read_predictions(tmp_path / name)) for name in ("alone", "together"))
    assert [shard.ids for shard in after] == [shard.ids for shard in before]
    assert len(after) > 1
    images, known = load_images(unlabeled), load_images(labeled)
    assert sum(seen) == len(images) + len(known)
    expected = joined(
        np.concatenate([shard.log_probs for shard in before]),
        see(known.images).numpy(),
        known.labels.numpy(),
        see(images.images).numpy(),
        PropagationParams(neighbors=5),
    )
    found = np.concatenate([shard.log_probs for shard in after])
    np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=1e-3)
    for folder in ("alone", "together"):
        shard = read_manifest(tmp_path / folder).shards[0]
        metadata = read_shard(tmp_path / folder / shard.file, ["id"]).schema.metadata
        assert metadata[b"precision"] == b"float32"
