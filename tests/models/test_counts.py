"""Numbers of parameters against the published ones; nothing is computed, on the meta device."""

from typing import Any

import pytest
import torch

from pipeline.models.build import build_network
from pipeline.models.library import library_network
from tests.tiny import count_parameters

# Of 1000 classes and 3 channels at 224 pixels, as torchvision and timm publish them.
IMAGENET = {
    "alexnet": 61_100_840,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "googlenet": 6_624_904,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "densenet121": 7_978_856,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "seresnet50": 28_088_024,
    "tf_efficientnet_lite0": 4_652_008,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "efficientnet_b5": 30_389_784,
    "efficientnet_b6": 43_040_704,
    "efficientnet_b7": 66_347_960,
}
# Zagoruyko & Komodakis 2016, table 4 and after, in millions with one digit; 10 classes.
WIDE = {"wrn_40_4": 8.9, "wrn_16_8": 11.0, "wrn_22_8": 17.2, "wrn_28_10": 36.5, "wrn_28_8": 23.4}


def count(name: str, **changes: Any) -> int:
    options: dict[str, Any] = {"num_classes": 1000, "channels": 3, "image_size": 224, "seed": 0}
    with torch.device("meta"):
        return count_parameters(build_network(name, **(options | changes)))


@pytest.mark.parametrize(("name", "published"), IMAGENET.items())
def test_networks_for_imagenet(name: str, published: int) -> None:
    # Without build_network's check of the size, which takes longer than the rest.
    noise = {"dropout_rate": 0.0, "stochastic_depth_rate": 0.0}
    with torch.device("meta"):
        network = library_network(name, num_classes=1000, channels=3, noise=noise)
    assert count_parameters(network) == published


@pytest.mark.parametrize("compound", [0, 3])
def test_efficientnet_grows_with_its_compound(compound: int) -> None:
    published = IMAGENET[f"efficientnet_b{compound}"]
    assert count("efficientnet", compound=compound) == published


@pytest.mark.parametrize(("name", "millions"), WIDE.items())
def test_wide_resnets(name: str, millions: float) -> None:
    assert round(count(name, num_classes=10, image_size=32) / 1e6, 1) == millions


def test_the_wide_resnet_of_semi_supervised_learning() -> None:
    assert count("wrn_28_2", num_classes=10, image_size=32) == 1_467_610


@pytest.mark.parametrize("size", [28, 32, 64])
def test_lenet5(size: int) -> None:
    assert count("lenet5", num_classes=10, channels=1, image_size=size) == 61_706
