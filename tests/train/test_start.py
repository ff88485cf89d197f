"""A network that starts from weights knows nothing of the classes, and may keep its statistics."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.models.build import build_network
from pipeline.models.parts import head_names
from pipeline.models.pretrained import Weights
from pipeline.train.fit import fit
from pipeline.train.transfer import find_source, read_source, start_from, training_mode
from tests.tiny import CLASSES, PLAIN, STRONG, same_tensors, stripe_data, tiny_network, train_params
from tests.train.test_fit import KilledError

FAMILIES = {
    "lenet5": 32,
    "googlenet": 32,
    "resnet18": 32,
    "densenet121": 32,
    "seresnet18": 32,
    "efficientnet": 32,
    "timm/tf_efficientnet_lite0": 32,
    "wrn_10_1": 8,
    "resnet_small": 8,
    "squeezenet1_1": 32,
}
LARGE = {"alexnet": 32, "vgg11": 32, "vgg11_bn": 32}
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def started(network: nn.Module, tensors: dict[str, Tensor], **changes: Any) -> nn.Module:
    start_from(network, Weights(tensors), source="x", classes=list(CLASSES), **changes)
    return network


@pytest.mark.parametrize(
    ("name", "side"),
    [
        *FAMILIES.items(),
        *(pytest.param(name, side, marks=pytest.mark.slow) for name, side in LARGE.items()),
    ],
)
def test_the_first_loss_is_that_of_knowing_nothing(name: str, side: int) -> None:
    network = build_network(name, num_classes=10, channels=3, image_size=side, seed=0)
    for head in head_names(network):
        for weight in network.get_submodule(head).parameters():
            nn.init.normal_(weight, std=2.0, generator=torch.Generator().manual_seed(0))
    started(network, tensors_of(network))
    images = torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(1))
    loss = nn.functional.cross_entropy(network.eval()(images), torch.arange(4))
    assert loss.item() == pytest.approx(math.log(10), rel=0.01)
    loss.backward()  # type: ignore[no-untyped-call]
    for head in head_names(network):
        for weight in network.get_submodule(head).parameters():
            assert weight.grad is not None
            assert weight.grad.abs().sum() > 0


def test_packaged_weights_are_found_and_read() -> None:
    source = find_source("packaged", sha256=None, root=Path(), teacher=None)
    assert source is not None
    assert (source.path, len(source.digest)) == (None, 64)
    weights = read_source("packaged", source.path, "timm/tf_efficientnet_lite0")
    assert weights.tensors["conv_stem.weight"].shape == (32, 3, 3, 3)


def taught(seed: int = 1) -> dict[str, Tensor]:
    """The weights of a network whose statistics are not those it begins with."""
    data = stripe_data(9)
    return fit(tiny_network(seed), data, train=train_params(), augment=PLAIN, seed=0)


def test_statistics_are_those_of_the_source_and_the_weights_move() -> None:
    source = taught()
    network = started(tiny_network(2), source, freeze_statistics=True)
    data = stripe_data(9, 20)
    watched = stripe_data(9, 20, validation_images=data.images, validation_labels=data.labels)
    online: dict[str, Any] = {"online": {"start_fraction": 0.5}, "ema_decay": 0.9}
    averaged = fit(network, watched, train=train_params(**online), augment=STRONG, seed=0)
    now = tensors_of(network)
    kept = {key for key in now if key.endswith(STATISTICS)}
    assert kept
    for found in (averaged, now):
        assert all(torch.equal(found[key], source[key]) for key in kept)
        assert not any(torch.equal(found[key], source[key]) for key in now.keys() - kept)


def test_a_pass_in_training_mode_normalises_by_the_kept_statistics() -> None:
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    source = taught()
    network = started(tiny_network(2), source, freeze_statistics=True)
    other = started(tiny_network(2), source)
    nn.init.normal_(network.get_submodule("classifier").get_parameter("weight"))
    with torch.no_grad():
        expected = network.eval()(images)
        training_mode(network)
        assert network.training
        assert torch.equal(network(images), expected)
        other.load_state_dict(network.state_dict())
        training_mode(other)
        assert not torch.equal(other(images), expected)


def test_statistics_that_the_source_lacks_are_learnt() -> None:
    source = {key: value for key, value in taught().items() if "blocks.1" not in key}
    network = started(tiny_network(2), source, freeze_statistics=True)
    training_mode(network)
    normalisations = {
        name: module.training
        for name, module in network.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    }
    assert {name for name, learns in normalisations.items() if learns} == {
        name for name in normalisations if name.startswith("blocks.1")
    }


def test_a_killed_run_goes_on_with_the_same_statistics(tmp_path: Path) -> None:
    source, data = taught(), stripe_data(9, 20)

    def run(kill_at: int | None = None, state: Path | None = None) -> dict[str, Tensor]:
        def log(step: int, _: dict[str, float]) -> None:
            if step == kill_at:
                raise KilledError

        network = started(tiny_network(2), source, freeze_statistics=True)
        how: dict[str, Any] = {"state_folder": state, "checkpoint_minutes": 1e-9}
        return fit(network, data, train=train_params(), augment=STRONG, seed=0, log=log, **how)

    whole = run()
    with pytest.raises(KilledError):
        run(5, tmp_path)
    assert same_tensors(run(state=tmp_path), whole)
    kept = [key for key in whole if key.endswith(STATISTICS)]
    assert all(torch.equal(whole[key], source[key]) for key in kept)
