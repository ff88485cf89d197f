"""Every kind of network trains as a student does, twice to the same bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.models.build import build_network
from pipeline.train.fit import fit
from pipeline.train.training_data import TrainingData
from tests.tiny import STRONG, same_tensors, stripe_data, train_params

PARAMS = train_params(steps=2, batch_size=3, unlabeled_ratio=1)


def doubled(data: TrainingData) -> TrainingData:
    """The same images with 16 pixels a side."""
    assert data.unlabeled_images is not None
    larger = [
        images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        for images in (data.images, data.unlabeled_images)
    ]
    return replace(data, images=larger[0], unlabeled_images=larger[1])


DATA = doubled(stripe_data(6, unlabeled=6))


def train(name: str, **options: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    network = build_network(name, num_classes=3, channels=1, image_size=16, seed=0, **options)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    return before, fit(network, DATA, train=PARAMS, augment=STRONG, seed=0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lenet5", {"dropout_rate": 0.2}),
        ("wrn_10_1", {"dropout_rate": 0.2, "stochastic_depth_rate": 0.2, "input_size": 12}),
        ("efficientnet", {"dropout_rate": 0.2, "stochastic_depth_rate": 0.2}),
        ("seresnet18", {"stochastic_depth_rate": 0.2}),
    ],
)
def test_it_learns_and_repeats(name: str, options: dict[str, Any]) -> None:
    before, first = train(name, **options)
    assert all(value.isfinite().all() for value in first.values())
    assert not torch.equal(next(iter(first.values())), before[next(iter(first))])
    assert same_tensors(first, train(name, **options)[1])
