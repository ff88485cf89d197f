"""`train.precision: auto` takes bfloat16 where the machine and the network gain by it."""

from __future__ import annotations

import pytest
import torch

from pipeline.models import passes
from pipeline.models.build import build_network
from pipeline.train import precision
from pipeline.train.precision import with_precision
from tests.tiny import PLAIN, same_tensors, stripe_data, tiny_network, train_params

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("able", "asked", "side", "comes_to"),
    [
        (True, "auto", 32, "bfloat16"),
        (True, "auto", 8, "float32"),  # too small to gain
        (False, "auto", 32, "float32"),
        (True, "float32", 32, "float32"),
        (False, "bfloat16", 8, "bfloat16"),
    ],
)
def test_auto_hangs_on_machine_and_network(
    monkeypatch: pytest.MonkeyPatch, able: bool, asked: str, side: int, comes_to: str
) -> None:
    monkeypatch.setattr(passes, "has_bfloat16", lambda device: able)
    network = build_network("wrn_10_1", num_classes=3, channels=3, image_size=side, seed=0)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    came = with_precision(train_params(precision=asked), network, (3, side, side), CPU)
    assert came == train_params(precision=comes_to)
    assert network.training
    assert same_tensors(before, network.state_dict())


def test_features_of_a_frozen_body_stay_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "has_bfloat16", lambda device: True)
    came = with_precision(train_params(), torch.nn.Linear(512, 10), (512,), CPU)
    assert came.precision == "float32"


def test_depthwise_convolutions_keep_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grouped ones that mix channels do not."""
    monkeypatch.setattr(passes, "has_bfloat16", lambda device: True)
    for groups, comes_to in ((1, "bfloat16"), (32, "bfloat16"), (64, "float32")):
        layer = torch.nn.Conv2d(64, 64, 3, groups=groups, padding=1)
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 3), layer, torch.nn.Conv2d(64, 64, 3))
        assert with_precision(train_params(), network, (3, 32, 32), CPU).precision == comes_to


def test_frozen_layers_stay_in_evaluation_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "has_bfloat16", lambda device: True)
    network = tiny_network()
    frozen = next(m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    frozen.requires_grad_(False)
    with_precision(train_params(), network, stripe_data(3).image_shape, CPU)
    assert not frozen.training
    assert network.training


def test_fit_trains_in_what_auto_comes_to(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.train.fit import fit

    def weights(asked: str) -> dict[str, torch.Tensor]:
        params = train_params(steps=2, precision=asked)
        return fit(tiny_network(), stripe_data(12), train=params, augment=PLAIN, seed=0)

    monkeypatch.setattr(passes, "has_bfloat16", lambda device: True)
    assert same_tensors(weights("auto"), weights("float32"))
    monkeypatch.setattr(precision, "WORTH_CONVERTING", 1.0)
    assert same_tensors(weights("auto"), weights("bfloat16"))
    assert not same_tensors(weights("auto"), weights("float32"))
