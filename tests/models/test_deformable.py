import math

import pytest
import torch
from torch import Tensor, nn

from pipeline.models.build import build_network
from pipeline.models.deformable import DeformableConv2d


def random_features(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("stride", [1, 2])
def test_it_starts_as_the_convolution_it_replaces(stride: int) -> None:
    plain = nn.Conv2d(4, 6, 3, stride, padding=1, bias=False)
    features = random_features(2, 4, 7, 7)
    torch.testing.assert_close(DeformableConv2d(plain)(features), plain(features))


def test_it_is_right_where_other_layers_compute_in_bfloat16() -> None:
    deformable, features = (
        DeformableConv2d(nn.Conv2d(4, 6, 3, padding=1)),
        random_features(2, 4, 7, 7),
    )
    with torch.autocast("cpu", torch.bfloat16):
        seen = deformable(features.bfloat16())
    torch.testing.assert_close(seen, deformable(features), rtol=0.02, atol=0.02)
    seen.sum().backward()


def at(image: Tensor, y: float, x: float) -> Tensor:
    """image (C, H, W) at a place between pixels, bilinear, zero outside: (C,)."""
    top, left = math.floor(y), math.floor(x)
    total = torch.zeros(len(image))
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
            share = (1 - abs(y - row)) * (1 - abs(x - column))
            total += share * image[:, row, column]
    return total


def test_moved_and_weighted_taps_equal_a_slow_loop() -> None:
    deformable = DeformableConv2d(nn.Conv2d(2, 3, 3, padding=1))
    nn.init.normal_(deformable.look.weight, std=0.3, generator=torch.Generator().manual_seed(2))
    features = random_features(1, 2, 5, 5)
    assert deformable.bias is not None
    with torch.no_grad():
        seen, looks = deformable(features)[0], deformable.look(features)[0]
        for y in range(5):
            for x in range(5):
                expected = deformable.bias.clone()
                for tap in range(9):
                    move_y, move_x = looks[2 * tap, y, x], looks[2 * tap + 1, y, x]
                    place = (y + tap // 3 - 1 + float(move_y), x + tap % 3 - 1 + float(move_x))
                    value = 2 * torch.sigmoid(looks[18 + tap, y, x]) * at(features[0], *place)
                    expected += deformable.weight[:, :, tap // 3, tap % 3] @ value
                torch.testing.assert_close(seen[:, y, x], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "replaced"), [("deformable_resnet18", 4), ("deformable_resnet50", 3)]
)
def test_every_3x3_of_the_last_stage_and_no_other_is_replaced(name: str, replaced: int) -> None:
    with torch.device("meta"):
        network = build_network(name, num_classes=5, channels=3, image_size=224, seed=0)
    paths = [path for path, m in network.named_modules() if isinstance(m, DeformableConv2d)]
    assert len(paths) == replaced
    assert all(path.startswith("layer4.") for path in paths)


def test_what_it_looks_with_is_learned() -> None:
    network = build_network("deformable_resnet18", num_classes=3, channels=1, image_size=32, seed=0)
    network.to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # each block's last starts at 0, which hides it
            nn.init.ones_(module.weight)
    images = random_features(4, 1, 32, 32).contiguous(memory_format=torch.channels_last)
    network(images).square().sum().backward()
    for module in network.modules():
        if isinstance(module, DeformableConv2d):
            assert module.look.weight.grad is not None
            assert module.look.weight.grad.abs().sum() > 0
