import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.evaluate.corruptions import SEVERITIES, corruption_names
from pipeline.evaluate.robustness import (
    BLOCK,
    corrupted,
    measure_robustness,
    sampled_rows,
)
from tests.tiny import striped


def brightest_third(images: Tensor) -> NDArray[np.float32]:
    """A model that tells the class of a striped image from where it is brightest."""
    columns = images.float().mean(dim=(1, 2))
    thirds = torch.stack([columns[:, start : start + 2].mean(dim=1) for start in (0, 3, 6)], dim=1)
    return np.asarray(torch.log_softmax(thirds, dim=1).numpy(), np.float32)


def test_every_corruption_is_measured_at_every_severity() -> None:
    labels = torch.arange(60) % 3
    images = striped(labels, 0)
    measured = measure_robustness(brightest_third, images, labels.numpy(), seed=2)
    assert measured.images == 60
    assert measured.clean == 1
    assert list(measured.accuracy) == corruption_names(1)
    for name, values in measured.accuracy.items():
        for severity, value in zip(SEVERITIES, values, strict=True):
            seen = corrupted(images, name, severity, seed=2)
            right = [
                int(brightest_third(image[None]).argmax()) == label
                for image, label in zip(seen, labels.tolist(), strict=True)
            ]
            assert value == pytest.approx(sum(right) / 60)
    assert 0.4 < measured.mean_accuracy < 1
    assert measured == measure_robustness(brightest_third, images, labels.numpy(), seed=2)


def test_draws_depend_on_the_place_and_not_on_what_follows() -> None:
    labels = torch.zeros(BLOCK + 5, dtype=torch.int64)
    images = striped(labels, 0)
    whole = corrupted(images, "gaussian_noise", 2, seed=0)
    assert torch.equal(corrupted(images[:BLOCK], "gaussian_noise", 2, seed=0), whole[:BLOCK])
    same = images[:1].expand(BLOCK + 1, -1, -1, -1)
    noisy = corrupted(same, "gaussian_noise", 2, seed=0)
    assert not torch.equal(noisy[0], noisy[BLOCK])  # blocks have draws of their own


def test_rows_are_a_seeded_choice_or_all() -> None:
    assert sampled_rows(5, 7, 0) == sampled_rows(5, 5, 0) == [0, 1, 2, 3, 4]
    some = sampled_rows(1000, 50, 0)
    assert some == sorted(set(some))
    assert len(some) == 50
    assert some == sampled_rows(1000, 50, 0) != sampled_rows(1000, 50, 1)
