from typing import Any

import pytest
import torch
from torch import nn

from pipeline.models.build import count_parameters
from pipeline.models.small_resnet import ResidualBlock, SmallResNet


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


def test_stochastic_depth_grows_linearly_to_its_rate_at_the_last_block() -> None:
    network = small_resnet(depth=2, stochastic_depth_rate=0.6)
    rates = [part.skip_rate for part in network.modules() if isinstance(part, ResidualBlock)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


def test_a_block_adds_its_body_to_the_shortcut() -> None:
    block = ResidualBlock(4, 4, 1, 0.0).eval()
    features = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    expected = torch.clamp(features + block.body(features), min=0)
    torch.testing.assert_close(block(features), expected)


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
