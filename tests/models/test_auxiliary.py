from typing import Any

import torch
from torch import nn

from pipeline.models.auxiliary import all_logits, drop_auxiliary, total_loss
from pipeline.models.build import build_network
from tests.tiny import tiny_network


def googlenet(**changes: Any) -> nn.Module:
    with torch.device("meta"):
        return build_network(
            "googlenet", num_classes=7, channels=1, image_size=28, seed=0, **changes
        )


IMAGES = torch.zeros(2, 1, 28, 28, device="meta")


def test_googlenet_has_two_in_training_and_none_in_evaluation() -> None:
    network = googlenet(auxiliary=True)
    assert [tuple(logits.shape) for logits in all_logits(network(IMAGES))] == [(2, 7)] * 3
    assert network.eval()(IMAGES).shape == (2, 7)
    assert googlenet()(IMAGES).shape == (2, 7)


def test_a_network_without_them_has_one_head() -> None:
    logits = torch.zeros(2, 3)
    assert all_logits(logits)[0] is logits
    assert len(all_logits(logits)) == 1


def test_each_auxiliary_loss_counts_three_tenths() -> None:
    losses = [torch.tensor(value) for value in (1.0, 10.0, 100.0)]
    assert float(total_loss(losses)) == 1.0 + 0.3 * 110.0
    assert total_loss(losses[:1]) is losses[0]


def test_dropped_they_leave_the_plain_network() -> None:
    network, plain = googlenet(auxiliary=True), googlenet()
    weights = network.state_dict()
    left = drop_auxiliary(network, weights)
    assert left.keys() == network.state_dict().keys() == plain.state_dict().keys()
    assert weights.keys() - left.keys() == {key for key in weights if key.startswith("aux")}
    assert network.train()(IMAGES).shape == (2, 7)


def test_nothing_else_is_dropped() -> None:
    network = tiny_network()
    weights = network.state_dict()
    assert drop_auxiliary(network, weights).keys() == weights.keys()
