from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn, optim

from pipeline.models import passes
from pipeline.models.build import build_network
from pipeline.train import precision
from pipeline.train.optimizer import build_optimizer, phase, set_learning_rate, warmup_cosine
from pipeline.train.precision import with_precision
from tests.tiny import PLAIN, same_tensors, stripe_data, tiny_network, train_params

GRADIENTS = [torch.tensor([[0.5, -1.0]]), torch.tensor([[0.2, 0.4]]), torch.tensor([[-2.0, 0.1]])]


def layer() -> nn.Linear:
    part = nn.Linear(2, 1)
    with torch.no_grad():
        part.weight.copy_(torch.tensor([[1.0, -2.0]]))
        part.bias.fill_(3.0)
    return part


def stepped(part: nn.Linear, optimizer: optim.Optimizer) -> None:
    for gradient in GRADIENTS:
        part.weight.grad, part.bias.grad = gradient.clone(), torch.zeros(1)
        optimizer.step()


def test_adamw_is_that_of_a_slow_loop() -> None:
    part = layer()
    weight, first, second = part.weight.detach().clone(), torch.zeros(1, 2), torch.zeros(1, 2)
    optimizer = build_optimizer(part, "adamw", learning_rate=0.1, momentum=0.0, weight_decay=0.3)
    stepped(part, optimizer)
    for step, gradient in enumerate(GRADIENTS, start=1):
        weight = weight * (1 - 0.1 * 0.3)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        scale = (second / (1 - 0.999**step)).sqrt() + 1e-8
        weight = weight - 0.1 * (first / (1 - 0.9**step)) / scale
    torch.testing.assert_close(part.weight.detach(), weight)
    assert part.bias.item() == 3.0  # no gradient, no decay


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_that_of_a_slow_loop(momentum: float) -> None:
    part = layer()
    weight, speed = part.weight.detach().clone(), torch.zeros(1, 2)
    optimizer = build_optimizer(part, "sgd", learning_rate=0.1, momentum=momentum, weight_decay=0.3)
    stepped(part, optimizer)
    for gradient in GRADIENTS:
        whole = gradient + 0.3 * weight
        speed = momentum * speed + whole
        weight = weight - 0.1 * (whole + momentum * speed)
    torch.testing.assert_close(part.weight.detach(), weight)
    assert part.bias.item() == 3.0


def decays(network: nn.Module) -> dict[str, float]:
    optimizer = build_optimizer(network, "adamw", learning_rate=0.1, momentum=0.0, weight_decay=0.3)
    by_id = {
        id(weight): group["weight_decay"]
        for group in optimizer.param_groups
        for weight in group["params"]
    }
    return {name: by_id[id(w)] for name, w in network.named_parameters() if id(w) in by_id}


def test_biases_and_normalisation_are_not_decayed_and_frozen_weights_left_out() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    network[2].bias.requires_grad_(False)
    assert decays(network) == {
        "0.weight": 0.3,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
        "2.weight": 0.3,
    }


def test_every_weight_moves() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    before: dict[str, Tensor] = {n: w.detach().clone() for n, w in network.named_parameters()}
    optimizer = build_optimizer(network, "sgd", learning_rate=0.1, momentum=0.9, weight_decay=0.0)
    for weight in network.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    for name, weight in network.named_parameters():
        torch.testing.assert_close(weight.detach(), before[name] - 0.1 * 1.9)


def test_shares_of_the_learning_rate_group_the_weights_and_scale_their_steps() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    before: dict[str, Tensor] = {n: w.detach().clone() for n, w in network.named_parameters()}
    rates = {"0.weight": 0.25, "0.bias": 0.25}
    optimizer = build_optimizer(
        network, "sgd", learning_rate=9.0, momentum=0.0, weight_decay=0.0, rates=rates
    )
    set_learning_rate(optimizer.param_groups, 0.1)
    for weight in network.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    for name, weight in network.named_parameters():
        step = 0.1 * rates.get(name, 1.0)
        torch.testing.assert_close(weight.detach(), before[name] - step)


def test_decay_goes_with_the_share_and_not_to_biases() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    rates = {key: 0.5 for key, _ in network.named_parameters() if key.startswith("0")}
    optimizer = build_optimizer(
        network, "adamw", learning_rate=0.1, momentum=0.0, weight_decay=0.3, rates=rates
    )
    names = {id(weight): name for name, weight in network.named_parameters()}
    seen = {
        names[id(weight)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for weight in group["params"]
    }
    assert seen == {
        "0.weight": (0.05, 0.3),
        "0.bias": (0.05, 0.0),
        "1.weight": (0.1, 0.3),
        "1.bias": (0.1, 0.0),
    }


def test_training_does_not_import_the_compiler() -> None:
    program = """
import sys
import pipeline.report.samples  # which draws what a model was trained on
from pipeline.train.fit import fit
from tests.tiny import PLAIN, stripe_data, tiny_network, train_params

for optimizer in ("adamw", "sgd"):
    params = train_params(steps=2, optimizer=optimizer)
    fit(tiny_network(), stripe_data(12), train=params, augment=PLAIN, seed=0)
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_it_warms_up_to_one_and_falls_to_nearly_zero() -> None:
    factors = [warmup_cosine(step, 100, 0.1) for step in range(100)]
    assert factors[:11] == pytest.approx([(step + 1) / 11 for step in range(11)])
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5)
    assert factors[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert 0 < factors[-1] < 1e-3
    assert warmup_cosine(100, 100, 0.1) == pytest.approx(0.0)


def test_without_warm_up_it_starts_at_one() -> None:
    assert warmup_cosine(0, 10, 0.0) == 1.0
    assert warmup_cosine(0, 1, 0.05) == 1.0


@given(st.integers(1, 300), st.floats(0, 0.999))
def test_it_rises_once_then_falls_within_bounds(steps: int, warmup_fraction: float) -> None:
    factors = [warmup_cosine(step, steps, warmup_fraction) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    top = factors.index(max(factors))
    assert factors[:top] == sorted(factors[:top])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert top == min(round(steps * warmup_fraction), steps - 1)


def test_fine_tuning_is_the_last_of_the_steps() -> None:
    train = train_params(steps=20, finetune_steps=5, finetune_learning_rate=0.001, image_size=8)
    main = [phase(train, step) for step in range(15)]
    assert all(params is train for params, _ in main)
    expected = [0.01 * warmup_cosine(step, 15, train.warmup_fraction) for step in range(15)]
    assert [rate for _, rate in main] == pytest.approx(expected)
    last = [phase(train, step) for step in range(15, 20)]
    assert [rate for _, rate in last] == pytest.approx(
        [0.001 * warmup_cosine(step, 5, 0.0) for step in range(5)]
    )
    for params, _ in last:
        assert params.labeled_augment == "none"
        assert params.unlabeled_ratio == 0
        assert params.image_size is None


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
