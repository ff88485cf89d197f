import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.models.size import check_size


class Picky(nn.Module):
    """A classifier of 3 classes that takes images of some sizes."""

    def __init__(self, sides: range | tuple[int, ...]) -> None:
        super().__init__()
        self.sides = sides
        self.linear = nn.Linear(1, 3)
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.shape[-1])
        if images.shape[-1] not in self.sides:
            raise RuntimeError(f"size {images.shape[-1]}\nsecond line")
        logits: Tensor = self.linear(images.mean(dim=(2, 3)))
        return logits


class Untraceable(nn.Module):
    """It holds a tensor that is no parameter, which shapes alone can't be computed with."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = [torch.ones(3)]
        self.linear = nn.Linear(1, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(images.mean(dim=(2, 3))) * self.scale[0]
        return logits


def check(network: nn.Module, side: int, num_classes: int = 3, trace: bool = True) -> None:
    check_size(network, "x", num_classes=num_classes, channels=1, side=side, key="key", trace=trace)


def refused(network: nn.Module, side: int, num_classes: int = 3, trace: bool = True) -> str:
    with pytest.raises(ModelError) as caught:
        check(network, side, num_classes, trace)
    return str(caught.value)


@pytest.mark.parametrize("trace", [True, False])
@pytest.mark.parametrize("least", [9, 29, 37, 224, 225, 1024])
def test_the_least_size_is_found(least: int, trace: bool) -> None:
    message = refused(Picky(range(least, 2000)), 8, trace=trace)
    assert message == (
        f"model.name = 'x': can't take 8×8 images with 1 channel(s) (size 8); least key is {least}"
    )


def test_of_some_sizes_one_that_works_is_named() -> None:
    assert "least key is 224" in refused(Picky((224,)), 32)
    assert "least key is 32" in refused(Picky(range(16, 1025, 16)), 28)
    assert "set model.input_size to 224" in refused(Picky((224,)), 300)
    assert "choose another network" in refused(Picky(()), 32)


def test_a_size_that_works_is_tried_alone() -> None:
    network = Picky((32,))
    check(network, 32)
    assert network.seen == [32]
    assert network.training


def test_a_network_that_cannot_be_traced_is_run() -> None:
    check(Untraceable(), 8)


def test_what_makes_no_logits_is_no_classifier() -> None:
    assert "no classifier of 4 classes" in refused(Picky((8,)), 8, num_classes=4)
