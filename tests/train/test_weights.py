import pytest
import torch
from torch import Tensor, nn

from pipeline.train.weights import BestWeights, WeightAverage
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


def weights(value: float) -> dict[str, Tensor]:
    return {"a": torch.full((2,), value), "b": torch.tensor(int(value))}


def test_the_most_accurate_weights_are_kept_and_of_equals_the_latest() -> None:
    best = BestWeights(weights(0))
    current = weights(1)
    for value, accuracy in ((1.0, 0.5), (2.0, 0.7), (3.0, 0.6), (4.0, 0.7), (5.0, 0.4)):
        current["a"].fill_(value)
        current["b"].fill_(int(value))
        best.offer(current, accuracy)
    assert best.tensors["a"].tolist() == [4.0, 4.0]
    assert best.tensors["b"].item() == 4


def test_it_says_how_many_in_a_row_were_no_better() -> None:
    best = BestWeights(weights(0))
    assert [best.offer(weights(1), a) for a in (0.5, 0.4, 0.5, 0.6, 0.3)] == [0, 1, 2, 0, 1]


def test_its_state_put_back_goes_on_where_it_was() -> None:
    best, other = BestWeights(weights(0)), BestWeights(weights(9))
    best.offer(weights(3), 0.8)
    best.offer(weights(4), 0.2)
    for key, value in best.state.items():
        other.state[key].copy_(value)
    assert other.offer(weights(5), 0.7) == 2
    assert other.tensors["a"].tolist() == [3.0, 3.0]
