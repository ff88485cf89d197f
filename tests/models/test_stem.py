from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.errors import ModelError
from pipeline.models.build import build_network
from pipeline.models.library import library_network
from pipeline.models.stem import first_convolution, fit_stem


def meta_network(name: str, **changes: Any) -> nn.Module:
    options: dict[str, Any] = {"num_classes": 5, "channels": 3, "image_size": 32, "seed": 0}
    with torch.device("meta"):
        return build_network(name, **(options | changes))


class SeenError(Exception):
    """Ends a forward pass once the second convolution has seen its input."""


def stem_stride(network: nn.Module, side: int = 96) -> int:
    """How much smaller the second convolution's input is than the image."""
    seen: list[int] = []

    def look(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        seen.append(inputs[0].shape[-1])
        raise SeenError

    second = [part for part in network.modules() if isinstance(part, nn.Conv2d)][1]
    second.register_forward_pre_hook(look)
    channels = first_convolution(network)[1].in_channels
    with pytest.raises(SeenError):
        network.eval()(torch.zeros(2, channels, side, side, device="meta"))
    return round(side / seen[0])


LARGE = [
    "resnet18",
    "densenet121",
    "googlenet",
    "alexnet",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "convnext_tiny",
    "timm/resnet18",
    "timm/densenet121",
    "seresnet18",
    "timm/convnext_atto",
]


@pytest.mark.parametrize("name", LARGE)
def test_small_images_get_a_small_stem_and_large_ones_the_network_s_own(name: str) -> None:
    noise = {"dropout_rate": 0.0, "stochastic_depth_rate": 0.0}
    with torch.device("meta"):
        network = library_network(name, num_classes=5, channels=1, noise=noise)
        fit_stem(network, name, "standard", 32)
        assert stem_stride(deepcopy(network)) >= 4
        fit_stem(network, name, "auto", 65)
        assert stem_stride(deepcopy(network)) >= 4
        small = deepcopy(network)
        fit_stem(small, name, "small", 224)
        assert stem_stride(small) == 1
        fit_stem(network, name, "auto", 64)
        assert stem_stride(network) == 1


@pytest.mark.parametrize("name", ["resnet18", "alexnet"])
def test_a_small_stem_is_3x3_and_as_wide(name: str) -> None:
    small = first_convolution(meta_network(name, channels=1))[1]
    own = first_convolution(meta_network(name, image_size=96))[1]
    assert (small.kernel_size, small.stride, small.padding) == ((3, 3), (1, 1), (1, 1))
    assert small.out_channels == own.out_channels
    assert (small.bias is None) == (own.bias is None)
    assert (small.in_channels, own.in_channels) == (1, 3)


def test_what_counts_is_the_size_that_the_network_sees() -> None:
    assert stem_stride(meta_network("resnet18", image_size=96, input_size=65), 65) == 4
    assert stem_stride(meta_network("resnet18", image_size=96, input_size=64), 64) == 1
    assert stem_stride(meta_network("deformable_resnet18", image_size=64), 64) == 1


@pytest.mark.parametrize("name", ["vgg11", "mobilenet_v2", "efficientnet", "swin_t", "test_vit"])
def test_other_networks_keep_theirs(name: str) -> None:
    standard = meta_network(name, stem="standard").state_dict()
    assert {key: value.shape for key, value in meta_network(name).state_dict().items()} == {
        key: value.shape for key, value in standard.items()
    }


def test_small_asked_for_takes_the_stride_of_a_first_convolution() -> None:
    assert first_convolution(meta_network("mobilenet_v2"))[1].stride == (2, 2)
    assert first_convolution(meta_network("mobilenet_v2", stem="small"))[1].stride == (1, 1)


@pytest.mark.parametrize("name", ["vgg11", "timm/test_vit", "resnet_small", "lenet5", "wrn_10_1"])
def test_small_is_refused_where_it_means_nothing(name: str) -> None:
    with pytest.raises(ModelError, match=r"^model\.stem = 'small': .*set it to auto$"):
        meta_network(name, stem="small")


def test_without_a_convolution_there_is_no_stem() -> None:
    with pytest.raises(ModelError, match="no convolution"):
        first_convolution(nn.Sequential(nn.Flatten(), nn.Linear(2, 2)))
