from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pipeline.errors import ModelError
from pipeline.models.build import build_network
from pipeline.models.networks import (
    LeNet5,
    ResidualBlock,
    Shortcut,
    SmallResNet,
    WideBlock,
    WideResNet,
    depth_and_width,
)
from tests.tiny import count_parameters


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


def small_resnet(**changes: Any) -> SmallResNet:
    options: dict[str, Any] = {
        "num_classes": 5,
        "channels": 3,
        "width": 4,
        "depth": 1,
        "stem_stride": 1,
        "dropout_rate": 0.0,
        "stochastic_depth_rate": 0.0,
    }
    return SmallResNet(**(options | changes))


@pytest.mark.parametrize("size", [8, 15, 32])
@pytest.mark.parametrize("stem_stride", [1, 2])
@pytest.mark.parametrize(("width", "depth"), [(1, 1), (4, 2)])
def test_any_size_gives_logits(size: int, stem_stride: int, width: int, depth: int) -> None:
    network = small_resnet(width=width, depth=depth, stem_stride=stem_stride).eval()
    logits = network(torch.zeros(2, 3, size, size))
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()


def test_parameters_are_those_counted_by_hand() -> None:
    def block(inputs: int, outputs: int, shortcut: bool) -> int:
        body = 9 * inputs * outputs + 2 * outputs + 9 * outputs * outputs + 2 * outputs
        return body + (inputs * outputs + 2 * outputs if shortcut else 0)

    stem = 9 * 3 * 4 + 2 * 4
    first = block(4, 4, False) + block(4, 4, False)
    second = block(4, 6, True) + block(6, 6, False)
    third = block(6, 8, True) + block(8, 8, False)
    classifier = 8 * 5 + 5
    assert count_parameters(small_resnet(depth=2)) == stem + first + second + third + classifier


def test_stages_and_stem_halve_the_side() -> None:
    images = torch.zeros(1, 3, 16, 16)
    for stride, side in ((1, 4), (2, 2)):
        network = small_resnet(stem_stride=stride).eval()
        assert network.blocks(network.stem(images)).shape == (1, 8, side, side)


def test_a_block_adds_its_body_to_the_shortcut() -> None:
    block = ResidualBlock(4, 4, 1, 0.0).eval()
    features = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    expected = torch.clamp(features + block.body(features), min=0)
    torch.testing.assert_close(block(features), expected)


@pytest.mark.parametrize("inputs", [3, 4, 8])
def test_a_shortcut_has_the_gradients_of_a_plain_convolution(inputs: int) -> None:
    shortcut = Shortcut(inputs, 6, stride=2)
    features = torch.randn(6, inputs, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = F.conv2d(features, shortcut.weight, stride=2).square().mean()
    (expected,) = torch.autograd.grad(plain, shortcut.weight)
    laid_out = shortcut.to(memory_format=torch.channels_last)
    for _ in range(50):  # what is written past a buffer is noticed later
        outputs = laid_out(features.contiguous(memory_format=torch.channels_last))
        (gradient,) = torch.autograd.grad(outputs.square().mean(), laid_out.weight)
        torch.testing.assert_close(gradient, expected)


def test_a_block_is_skipped_image_by_image_and_else_scaled_to_keep_the_mean() -> None:
    block = ResidualBlock(4, 4, 1, 0.75)
    features = torch.randn(400, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    block.body.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        seen = block(features)
        skipped, kept = features.relu(), (features + 4 * block.body(features)).relu()
    is_skipped = (seen == skipped).flatten(1).all(dim=1)
    assert 270 < int(is_skipped.sum()) < 330
    torch.testing.assert_close(seen[~is_skipped], kept[~is_skipped])


@pytest.mark.parametrize("noise", [{"dropout_rate": 0.5}, {"stochastic_depth_rate": 0.9}])
def test_noise_is_in_training_only(noise: dict[str, float]) -> None:
    network = small_resnet(**noise)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()
    images = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


def random_images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_the_name_says_depth_and_width() -> None:
    assert depth_and_width("wrn_28_2") == (28, 2)
    assert depth_and_width("wrn_10_16") == (10, 16)
    for other in ("wrn_28", "wrn_28_2_2", "resnet_small", "wrn_x_2", "wide_resnet50_2"):
        assert depth_and_width(other) is None


@pytest.mark.parametrize(
    ("name", "near"),
    [("wrn_27_2", "wrn_28_2"), ("wrn_4_1", "wrn_10_1"), ("wrn_30_3", "wrn_28_3"),
     ("wrn_16_0", "wrn_16_1"), ("wrn_0_0", "wrn_10_1")],
)  # fmt: skip
def test_a_depth_or_width_that_cannot_be_is_refused_with_one_near(name: str, near: str) -> None:
    with pytest.raises(ModelError, match=f"model.name = '{name}': .* as in {near}$"):
        depth_and_width(name)


@pytest.mark.parametrize(("depth", "width"), [(10, 2), (16, 2), (28, 4)])
def test_there_are_as_many_convolutions_as_the_name_says(depth: int, width: int) -> None:
    with torch.device("meta"):
        network = WideResNet(10, 3, depth, width, 0.0, 0.0)
    convolutions = [part for part in network.modules() if isinstance(part, nn.Conv2d)]
    assert len(convolutions) == depth  # the three shortcuts that change the width among them
    widths = [block.conv2.out_channels for block in network.blocks if isinstance(block, WideBlock)]
    per_stage = (depth - 4) // 6
    assert widths == [stage * width for stage in (16, 32, 64) for _ in range(per_stage)]


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(4, 4, 1), (4, 6, 1), (4, 6, 2)])
def test_a_block_is_that_of_the_paper(inputs: int, outputs: int, stride: int) -> None:
    block = WideBlock(inputs, outputs, stride, 0.0, 0.0).eval()
    features = random_images(2, inputs, 6, 6)
    active = block.norm1(features).clamp(min=0)
    change = block.conv2(block.norm2(block.conv1(active)).clamp(min=0))
    kept = features if block.shortcut is None else block.shortcut(active)
    assert (block.shortcut is None) == (inputs == outputs)
    assert change.shape == (2, outputs, 6 // stride, 6 // stride)
    torch.testing.assert_close(block(features), kept + change)


def test_the_last_stage_sees_a_quarter_of_the_side() -> None:
    network = WideResNet(10, 1, 10, 1, 0.0, 0.0).eval()
    assert network.blocks(network.stem(random_images(1, 1, 28, 28))).shape == (1, 64, 7, 7)


def test_noise_is_in_every_block_and_skips_grow_to_their_rate() -> None:
    network = WideResNet(10, 3, 16, 1, 0.3, 0.6)
    blocks = [part for part in network.modules() if isinstance(part, WideBlock)]
    assert [block.dropout.p for block in blocks] == [0.3] * 6
    assert [block.skip_rate for block in blocks] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
