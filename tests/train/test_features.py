"""A classifier trained on kept features is the one trained behind its frozen body."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.models.build import build_network
from pipeline.models.parts import network_parts
from pipeline.params import ModelParams, Training, TransferParams
from pipeline.train.features import separate_head
from pipeline.train.fit import fit
from pipeline.train.run import fit_network
from pipeline.train.training_data import TrainingData
from pipeline.train.transfer import freeze, zero_classifier
from tests.tiny import (
    PLAIN,
    accuracy,
    same_tensors,
    stripe_data,
    striped,
    tiny_network,
    train_params,
)

STILL: dict[str, Any] = {"labeled_augment": "none", "unlabeled_augment": "none"}


def frozen(network: nn.Module) -> nn.Module:
    freeze(network, network_parts(network), mode="head", frozen_stages=0)
    return network


def watched(labeled: int = 30, unlabeled: int = 40) -> TrainingData:
    held = stripe_data(15, seed=7)
    return stripe_data(
        labeled, unlabeled, validation_images=held.images, validation_labels=held.labels
    )


def training(dropout_rate: float = 0.0, **changes: Any) -> Training:
    return Training(
        model=ModelParams(width=4, dropout_rate=dropout_rate),
        augment=PLAIN,
        train=train_params(**({"steps": 40, "learning_rate": 0.05} | STILL | changes)),
        transfer=TransferParams(source="teacher", mode="head"),
    )


def separable(network: nn.Module, data: TrainingData, dropout_rate: float, **changes: Any) -> bool:
    params = training(**changes).train
    head = separate_head(network, data, train=params, dropout_rate=dropout_rate, seed=0)
    return head is not None


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("dropout_rate", [0.0, 0.3])
def test_features_give_the_weights_of_the_uncached_run(optimizer: str, dropout_rate: float) -> None:
    how, data = training(dropout_rate, optimizer=optimizer), watched()
    networks = [frozen(tiny_network(dropout_rate=dropout_rate)) for _ in range(2)]
    assert separable(networks[0], data, dropout_rate)
    logs: list[list[dict[str, float]]] = [[], []]
    kept = fit_network(
        networks[0], data, training=how, seed=1, log=lambda s, v: logs[0].append({"step": s, **v})
    )
    slow = fit(
        networks[1],
        data,
        train=how.train,
        augment=PLAIN,
        seed=1,
        log=lambda s, v: logs[1].append({"step": s, **v}),
    )
    assert kept.keys() == slow.keys()
    for key, value in slow.items():
        torch.testing.assert_close(kept[key], value, rtol=1e-4, atol=1e-5)
    assert accuracy(networks[0], kept, data) == accuracy(networks[1], slow, data)
    for fast, whole in zip(*logs, strict=True):
        assert fast.keys() == whole.keys()
        for key in fast.keys() - {"images_per_second"}:
            assert fast[key] == pytest.approx(whole[key], rel=1e-3, abs=1e-4)


def test_the_body_comes_out_as_it_was_and_a_rerun_gives_the_same_bytes() -> None:
    start = tiny_network().state_dict()
    runs: list[dict[str, Tensor]] = [
        fit_network(frozen(tiny_network()), watched(), training=training(), seed=1)
        for _ in range(2)
    ]
    assert same_tensors(*runs)
    moved = {key for key, value in runs[0].items() if not torch.equal(value, start[key])}
    assert moved == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize(
    ("name", "rate"),
    [("resnet18", 0.0), ("timm/resnet18", 0.5), ("mobilenet_v3_small", 0.0)],
)
def test_networks_of_libraries_are_separated(name: str, rate: float) -> None:
    how: dict[str, Any] = {"num_classes": 3, "channels": 1, "image_size": 32, "seed": 0}
    network = frozen(build_network(name, dropout_rate=rate, **how))
    images = striped(torch.arange(12) % 3, seed=0).repeat(1, 1, 4, 4)
    data = stripe_data(12, images=images)
    assert separable(network, data, rate)
    assert not separable(network, data, 0.9)  # which is not what the network drops


def test_what_would_change_the_result_is_not_separated() -> None:
    data = watched()
    assert separable(frozen(tiny_network()), data, 0.0)
    assert not separable(tiny_network(), data, 0.0)  # the body trains
    assert not separable(frozen(tiny_network()), data, 0.0, labeled_augment="weak")
    assert not separable(frozen(tiny_network()), data, 0.0, unlabeled_augment="strong")
    assert not separable(frozen(tiny_network(dropout_rate=0.3)), data, 0.2)
    assert not separable(frozen(tiny_network(stochastic_depth_rate=0.1)), data, 0.0)
    assert not separable(frozen(tiny_network()), data, 0.0, cache_gib=1e-7)
    head = frozen(nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 3, 8), nn.Flatten()))
    assert not separable(head, data, 0.0)  # no linear classifier


@pytest.mark.parametrize(("last", "same"), [(nn.Identity(), True), (nn.ReLU(), False)])
def test_what_follows_a_classifier_is_found_though_it_starts_at_zero(
    last: nn.Module, same: bool
) -> None:
    network = frozen(nn.Sequential(nn.Conv2d(1, 4, 8), nn.Flatten(), nn.Linear(4, 3), last))
    zero_classifier(network, "2")
    assert separable(network, watched(), 0.0) == same


def test_pseudo_labels_that_are_not_used_may_be_augmented() -> None:
    how: dict[str, Any] = {"unlabeled_augment": "strong"}
    assert separable(frozen(tiny_network()), watched(unlabeled=0), 0.0, **how)
    assert separable(frozen(tiny_network()), watched(), 0.0, unlabeled_ratio=0, **how)


def test_looking_for_the_head_leaves_the_network_as_it_was() -> None:
    network = frozen(tiny_network(dropout_rate=0.3, stochastic_depth_rate=0.2))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()
    separable(network, watched(), 0.3)
    assert same_tensors(before, dict(network.state_dict()))
    assert torch.equal(torch.get_rng_state(), state)
