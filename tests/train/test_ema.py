import pytest
import torch
from torch import nn

from pipeline.train.ema import WeightAverage
from tests.tiny import same_tensors


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def walk(part: nn.Module, step: int) -> None:
    """Move every parameter and buffer to values that only `step` decides."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for value in part.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=generator))
            else:
                value.fill_(step + 100)


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9])
def test_the_average_is_that_of_a_slow_loop(decay: float) -> None:
    part = network()
    average = WeightAverage(part, decay)
    slow = {key: value.clone().double() for key, value in part.state_dict().items()}
    for step in range(30):
        walk(part, step)
        average.update(part, step)
        weight = min(decay, (1 + step) / (10 + step))
        for key, value in part.state_dict().items():
            if value.is_floating_point():
                slow[key] = weight * slow[key] + (1 - weight) * value.double()
            else:
                slow[key] = value.double()
    assert average.tensors.keys() == slow.keys()
    for key, value in average.tensors.items():
        torch.testing.assert_close(value.double(), slow[key], rtol=1e-5, atol=1e-6)


def test_whole_number_buffers_are_copied() -> None:
    part = network()
    average = WeightAverage(part, 0.99)
    walk(part, 7)
    average.update(part, 7)
    assert average.tensors["1.num_batches_tracked"].item() == 107
    assert average.tensors["1.num_batches_tracked"].dtype == torch.int64


def test_decay_zero_keeps_the_last_weights() -> None:
    part = network()
    average = WeightAverage(part, 0.0)
    for step in range(3):
        walk(part, step)
        average.update(part, step)
    assert same_tensors(average.tensors, dict(part.state_dict()))


def test_the_average_shares_no_memory_with_the_network() -> None:
    part = network()
    before = {key: value.clone() for key, value in part.state_dict().items()}
    average = WeightAverage(part, 0.9)
    walk(part, 0)
    assert same_tensors(average.tensors, before)
    now = {key: value.clone() for key, value in part.state_dict().items()}
    average.update(part, 0)
    assert same_tensors(dict(part.state_dict()), now)
