import torch
from torch import Tensor

from pipeline.train.best import BestWeights


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
