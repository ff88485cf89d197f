from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import ModelError
from pipeline.models.build import build_network, seen_side
from pipeline.models.checkpoint import load_checkpoint, network_of, save_checkpoint
from tests.tiny import same_tensors, tiny_network, tiny_spec

IMAGES = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def shrinking(**changes: Any) -> torch.nn.Module:
    return tiny_network(**({"image_size": 16, "input_size": 8} | changes)).eval()


def test_the_network_sees_images_of_its_own_size() -> None:
    plain = tiny_network(image_size=8).eval()
    weights = torch.zeros(8, 16)  # a triangle two pixels wide on either side, cut at the border
    for row in range(8):
        for column in range(16):
            weights[row, column] = max(0.0, 1 - abs(column + 0.5 - 2 * (row + 0.5)) / 2)
    weights /= weights.sum(dim=1, keepdim=True)
    small = weights @ IMAGES @ weights.T
    with torch.no_grad():
        torch.testing.assert_close(shrinking()(IMAGES), plain(small))
        torch.testing.assert_close(shrinking()(small), plain(small))


def test_names_and_values_of_the_weights_stay() -> None:
    assert same_tensors(shrinking().state_dict(), tiny_network(image_size=8).state_dict())


def test_averaged_weights_see_the_same_images() -> None:
    network, other = shrinking(), shrinking(seed=1)
    with torch.no_grad():
        seen = torch.func.functional_call(network, other.state_dict(), (IMAGES,))
        torch.testing.assert_close(seen, other(IMAGES))


def test_a_checkpoint_comes_back_with_its_size(tmp_path: Path) -> None:
    changed = {"name": "resnet_small", "width": 4, "input_size": 8}
    spec = tiny_spec(image_size=16, network=changed)
    network = network_of(spec).eval()
    save_checkpoint(tmp_path / "model", network.state_dict(), spec)
    loaded = load_checkpoint(tmp_path / "model").network
    with torch.no_grad():
        assert torch.equal(loaded(IMAGES), network(IMAGES))
        assert not torch.equal(loaded(IMAGES), tiny_network(image_size=16).eval()(IMAGES))


def test_larger_than_stored_is_refused() -> None:
    with pytest.raises(ModelError, match=r"model\.input_size = 17: .* data\.image_size"):
        shrinking(input_size=17)


@pytest.mark.parametrize(
    ("name", "stored", "asked", "compound", "seen"),
    [
        ("resnet_small", 32, None, 7, 32),
        ("resnet_small", 32, 24, 7, 24),
        ("efficientnet", 600, None, 0, 224),
        ("efficientnet", 600, None, 3, 300),
        ("efficientnet", 600, None, 7, 600),
        ("efficientnet", 256, None, 7, 256),
        ("efficientnet", 600, 128, 7, 128),
    ],
)
def test_what_a_network_sees(
    name: str, stored: int, asked: int | None, compound: int, seen: int
) -> None:
    assert seen_side(name, stored, asked, compound) == seen


def test_one_parameter_makes_efficientnet_deeper_wider_and_see_more() -> None:
    sides, widths, depths = [], [], []
    for compound in (0, 2):
        with torch.device("meta"):
            network = build_network(
                "efficientnet", num_classes=2, channels=3, image_size=320, seed=0, compound=compound
            )
        convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
        convolutions[0].register_forward_pre_hook(lambda m, x: sides.append(x[0].shape[-1]))
        network.eval()(torch.zeros(1, 3, 320, 320, device="meta"))
        widths.append(convolutions[-1].out_channels)
        depths.append(len(convolutions))
    assert sides == [224, 260]
    assert widths == [1280, 1408]
    assert depths[1] > depths[0]
