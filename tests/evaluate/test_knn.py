"""The vote of the nearest neighbours is that of scikit-learn's classifier."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from pipeline.data.sliced import LabeledImages
from pipeline.evaluate.knn import TEMPERATURE, knn_accuracy, knn_votes, network_knn_accuracy
from tests.tiny import striped, tiny_network


def drawn(count: int, seed: int) -> Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))


def weights(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp((1 - distances) / TEMPERATURE)


@pytest.mark.parametrize("neighbors", [1, 5, 20])
def test_votes_are_scikit_learns(neighbors: int) -> None:
    known, asked, labels = drawn(40, 0), drawn(25, 1), torch.arange(40) % 3
    peer = KNeighborsClassifier(neighbors, metric="cosine", weights=weights)
    expected = peer.fit(known.numpy(), labels.numpy()).predict_proba(asked.numpy())
    votes = knn_votes(known, labels, asked, num_neighbors=neighbors, num_classes=3)
    np.testing.assert_allclose(votes.numpy(), expected, atol=1e-5)


def test_accuracy_is_that_of_scikit_learn() -> None:
    known, asked, labels = drawn(60, 2), drawn(50, 3), torch.arange(60) % 4
    truth = torch.arange(50) % 4
    peer = KNeighborsClassifier(9, metric="cosine", weights=weights)
    expected = peer.fit(known.numpy(), labels.numpy()).score(asked.numpy(), truth.numpy())
    assert knn_accuracy(known, labels, asked, truth, num_neighbors=9) == pytest.approx(expected)


def test_a_class_without_a_labelled_image_gets_no_vote() -> None:
    votes = knn_votes(
        drawn(4, 0), torch.zeros(4).long(), drawn(2, 1), num_neighbors=2, num_classes=3
    )
    assert votes.tolist() == [[1.0, 0.0, 0.0]] * 2


def test_all_vote_where_there_are_fewer_than_asked_for() -> None:
    known, asked, labels = drawn(5, 0), drawn(3, 1), torch.tensor([0, 1, 1, 0, 1])
    few = knn_votes(known, labels, asked, num_neighbors=5, num_classes=2)
    torch.testing.assert_close(
        knn_votes(known, labels, asked, num_neighbors=99, num_classes=2), few
    )


def test_features_of_length_zero_and_no_images_have_an_answer() -> None:
    known, labels = drawn(5, 0), torch.tensor([0, 1, 1, 0, 1])
    assert (
        knn_votes(known, labels, torch.zeros(2, 6), num_neighbors=5, num_classes=2).isfinite().all()
    )
    empty = knn_votes(known, labels, known[:0], num_neighbors=5, num_classes=2)
    assert empty.shape == (0, 2)


def images(count: int, seed: int) -> LabeledImages:
    labels = torch.arange(count) % 3
    return LabeledImages(striped(labels, seed), labels)


def test_stripes_are_told_apart_in_the_features_of_a_network() -> None:
    how = {"mean": (0.3,), "std": (0.25,)}
    network = tiny_network().eval()
    reached = network_knn_accuracy(
        network, images(60, 0), images(90, 1), neighbors=5, batch_size=32, **how
    )
    shuffled = images(60, 0)
    shuffled.labels.copy_(shuffled.labels.roll(1))  # all wrong
    wrong = network_knn_accuracy(
        network, shuffled, images(90, 1), neighbors=5, batch_size=32, **how
    )
    assert reached > 0.6
    assert wrong < 0.3
