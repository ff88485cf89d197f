from typing import Any

import pytest
import torch
from torch.nn import functional as F

from pipeline.errors import ModelError
from pipeline.models.build import build_network
from pipeline.models.lenet import LeNet5


def images(side: int) -> torch.Tensor:
    return torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(side))


def network(**noise: Any) -> LeNet5:
    built = build_network("lenet5", num_classes=10, channels=1, image_size=28, seed=0, **noise)
    assert isinstance(built, LeNet5)
    return built.eval()


def test_28_pixels_are_framed_to_32_by_their_border() -> None:
    small = images(28)
    framed = torch.empty(2, 1, 32, 32)
    for y in range(32):
        for x in range(32):
            at = [min(max(position - 2, 0), 27) for position in (y, x)]
            framed[:, :, y, x] = small[:, :, at[0], at[1]]
    lenet = network()
    torch.testing.assert_close(lenet(small), lenet(framed))


def test_32_pixels_go_through_the_layers_of_the_paper() -> None:
    lenet = network()
    s2 = F.avg_pool2d(lenet.c1(images(32)).tanh(), 2)
    s4 = F.avg_pool2d(lenet.c3(s2).tanh(), 2)
    assert (s2.shape, s4.shape) == ((2, 6, 14, 14), (2, 16, 5, 5))
    c5 = F.linear(s4.flatten(1), lenet.c5.weight.flatten(1), lenet.c5.bias).tanh()
    torch.testing.assert_close(lenet(images(32)), lenet.classifier(lenet.f6(c5).tanh()))


@pytest.mark.parametrize("side", [8, 29, 33, 96])
def test_other_sizes_give_logits(side: int) -> None:
    assert network()(images(side)).shape == (2, 10)


def test_dropout_is_before_the_classifier_and_there_is_nothing_to_skip() -> None:
    assert network(dropout_rate=0.4).dropout.p == 0.4
    with pytest.raises(ModelError, match=r"model\.stochastic_depth_rate = 0\.1: lenet5"):
        network(stochastic_depth_rate=0.1)
