import pytest
import torch
from torch import nn

from pipeline.errors import ModelError
from pipeline.models.wide_resnet import WideBlock, WideResNet, depth_and_width


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


def test_a_skipped_block_leaves_its_image_as_it_was() -> None:
    block = WideBlock(4, 4, 1, 0.0, 0.75)
    features = random_images(200, 4, 3, 3)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        seen = block(features)
    untouched = int((seen == features).flatten(1).all(dim=1).sum())
    assert 125 < untouched < 175
