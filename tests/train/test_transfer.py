"""Which weights a run starts from, which of them move, and how fast."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import CheckpointError, ParameterError
from pipeline.models.build import build_network
from pipeline.models.parts import head_names, network_parts
from pipeline.models.pretrained import Weights, path_digest
from pipeline.train.fit import fit
from pipeline.train.transfer import (
    find_source,
    freeze,
    layer_rates,
    read_source,
    start_from,
    training_mode,
)
from tests.tiny import (
    CLASSES,
    PLAIN,
    STRONG,
    same_tensors,
    save_model,
    stripe_data,
    tiny_network,
    train_params,
)
from tests.train.test_fit import KilledError

STAGES = ("stem", "blocks.0", "blocks.1", "blocks.2")
SGD: dict[str, Any] = {
    "optimizer": "sgd",
    "momentum": 0.0,
    "weight_decay": 0.0,
    "ema_decay": 0.0,
    "clip_norm": None,
}


def trained(network: nn.Module, **changes: Any) -> dict[str, Tensor]:
    """The weights after some steps of it, with buffers."""
    rates = changes.pop("rates", None)
    params = train_params(**({"steps": 3, "labeled_augment": "none"} | changes))
    return fit(network, stripe_data(9), train=params, augment=PLAIN, seed=0, rates=rates)


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """The parts of the tiny network in which anything differs."""
    moved = {key for key, value in before.items() if not torch.equal(value, after[key])}
    return {part for part in (*STAGES, "classifier") if any(k.startswith(part) for k in moved)}


@pytest.mark.parametrize(
    ("frozen_stages", "moving"),
    [
        (0, {*STAGES, "classifier"}),
        (2, {*STAGES[2:], "classifier"}),
        (4, {"classifier"}),
    ],
)
def test_frozen_stages_stay_statistics_too(frozen_stages: int, moving: set[str]) -> None:
    network = tiny_network()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    freeze(network, network_parts(network), frozen_stages)
    data = stripe_data(9)
    watched = stripe_data(9, validation_images=data.images, validation_labels=data.labels)
    params = train_params(steps=12, labeled_augment="none")  # validated in between
    assert changed(before, fit(network, watched, train=params, augment=PLAIN, seed=0)) == moving


def test_more_stages_than_there_are_is_refused() -> None:
    network = tiny_network()
    with pytest.raises(ParameterError, match=r"transfer\.frozen_stages = 5: the network has 4"):
        freeze(network, network_parts(network), 5)


def test_frozen_normalisation_is_in_evaluation_mode_and_noise_stays() -> None:
    network = tiny_network(dropout_rate=0.1, stochastic_depth_rate=0.1)
    freeze(network, network_parts(network), 2)
    training_mode(network.eval())
    modes = {
        name: module.training
        for name, module in network.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    }
    frozen = {name for name in modes if name.startswith(STAGES[:2])}
    assert {name for name, training in modes.items() if not training} == frozen
    assert network.get_submodule("dropout").training
    assert network.get_submodule("blocks.0").training  # skips itself at random


def test_layer_rates_fall_towards_the_input() -> None:
    network = tiny_network()
    rates = layer_rates(network, body_learning_rate=0.5, layer_decay=0.8)
    expected = {"classifier": 1.0, **{s: 0.5 * 0.8 ** (3 - n) for n, s in enumerate(STAGES)}}
    assert rates.keys() == dict(network.named_parameters()).keys()
    for key, rate in rates.items():
        assert [rate] == [pytest.approx(v) for part, v in expected.items() if key.startswith(part)]


def test_a_weight_moves_by_its_share_of_the_learning_rate() -> None:
    start = {key: value.detach().clone() for key, value in tiny_network().named_parameters()}
    rates = layer_rates(tiny_network(), body_learning_rate=0.25, layer_decay=0.5)
    how = SGD | {"steps": 1, "learning_rate": 0.125, "warmup_fraction": 0.0}
    whole, part = trained(tiny_network(), **how), trained(tiny_network(), rates=rates, **how)
    assert len(set(rates.values())) == 5
    for key, value in start.items():
        torch.testing.assert_close(part[key] - value, rates[key] * (whole[key] - value))


def test_the_head_is_kept_only_for_the_same_classes() -> None:
    source = tiny_network(1)
    tensors = dict(source.state_dict())
    for classes, same in ((CLASSES, True), (("left", "right", "middle"), False), (None, False)):
        network = tiny_network(2)
        weights = Weights(tensors, classes=classes)
        start_from(network, weights, source="x", classes=list(CLASSES))
        assert changed(tensors, dict(network.state_dict())) == (set() if same else {"classifier"})


def test_a_source_is_found_and_its_digest_checked_before_any_work(tmp_path: Path) -> None:
    save_model(tmp_path / "models" / "0", seed=1)
    folder = tmp_path / "models" / "0"
    digest = path_digest(folder)
    asked: dict[str, Any] = {"root": tmp_path, "teacher": folder}
    assert find_source(None, sha256=None, **asked) is None
    teacher = find_source("teacher", sha256=None, **asked)
    assert teacher is not None
    assert (teacher.path, teacher.digest) == (folder, digest)
    named = find_source("models/0", sha256=digest, **asked)
    assert named is not None
    assert (named.name, named.path, named.digest) == ("models/0", folder, digest)
    hub = find_source("timm", sha256=None, **asked)
    assert hub is not None
    assert hub.path is None
    assert hub.digest.startswith("timm 1.")
    for wrong in (None, "0" * 64):
        with pytest.raises(ParameterError, match=f"'models/0' is {digest}; set that") as caught:
            find_source("models/0", sha256=wrong, **asked)
        assert caught.value.exit_code == 2
    with pytest.raises(CheckpointError, match="neither a model folder"):
        find_source("models/9", sha256=digest, **asked)


def test_a_source_is_read_from_where_it_is(tmp_path: Path) -> None:
    save_model(tmp_path / "m", seed=1)
    folder = read_source("m", tmp_path / "m", "resnet_small")
    file = read_source("m", tmp_path / "m" / "model.safetensors", "resnet_small")
    assert folder.classes == CLASSES
    assert file.classes is None
    assert all(torch.equal(value, file.tensors[key]) for key, value in folder.tensors.items())


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
