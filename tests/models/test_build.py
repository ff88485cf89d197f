import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torchvision.ops import StochasticDepth

from pipeline.errors import ModelError
from pipeline.models.build import build_network
from tests.tiny import count_parameters, same_tensors, tiny_network


def build(name: str, **changes: Any) -> nn.Module:
    options: dict[str, Any] = {"num_classes": 5, "channels": 3, "image_size": 32, "seed": 0}
    return build_network(name, **(options | changes))


def refused(name: str, **changes: Any) -> str:
    with pytest.raises(ModelError) as caught:
        build(name, **changes)
    message = str(caught.value)
    assert "\n" not in message
    assert f"model.name = {name.rpartition('/')[2]!r}" in message or repr(name) in message
    return message


def test_frozen_parameters_do_not_count() -> None:
    network = nn.Linear(3, 2)
    network.bias.requires_grad_(False)
    assert count_parameters(network) == 6


@pytest.mark.parametrize(
    "name",
    [
        "resnet_small",
        "lenet5",
        "wrn_10_1",
        "efficientnet",
        "shufflenet_v2_x0_5",
        "torchvision/resnet18",
        "test_resnet",
        "timm/test_vit",
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_ours_torchvisions_and_timms_take_grey_and_colour(name: str, channels: int) -> None:
    network = build(name, channels=channels)
    assert network.training
    assert network.eval()(torch.rand(3, channels, 32, 32)).shape == (3, 5)


def test_the_library_named_is_the_one_asked() -> None:
    assert type(build("torchvision/resnet18")).__module__.startswith("torchvision.")
    assert type(build("timm/resnet18")).__module__.startswith("timm.")
    assert type(build("resnet18")).__module__.startswith("torchvision.")
    assert type(build("test_resnet")).__module__.startswith("timm.")
    refused("torchvision/test_resnet")


def test_a_small_network_of_ours_needs_no_library() -> None:
    code = (
        "import sys; from pipeline.models.build import build_network as b\n"
        "for name in ('resnet_small', 'lenet5', 'wrn_10_1'):\n"
        "    b(name, num_classes=2, channels=1, image_size=8, seed=0)\n"
        "sys.exit(str({'torchvision', 'timm', 'sympy'} & set(sys.modules) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_an_unknown_name_suggests_close_ones_once() -> None:
    message = refused("resnet81")
    assert message.count("resnet18") == 1
    assert "did you mean" in message
    assert "resnet_small" in refused("resnet_smal")
    assert "did you mean" not in refused("??????")


def test_noise_reaches_the_network() -> None:
    ours = tiny_network(dropout_rate=0.25, stochastic_depth_rate=0.3)
    assert [part.p for part in ours.modules() if isinstance(part, nn.Dropout)] == [0.25]
    theirs = build("efficientnet_b0", dropout_rate=0.35, stochastic_depth_rate=0.3)
    assert [part.p for part in theirs.modules() if isinstance(part, nn.Dropout)] == [0.35]
    timms = build("test_resnet", dropout_rate=0.4)
    assert getattr(timms, "drop_rate") == 0.4  # noqa: B009


def test_no_noise_means_none_whatever_the_library_s_own_default() -> None:
    for name in ("vgg11", "efficientnet_b0", "convnext_tiny", "googlenet"):
        with torch.device("meta"):
            parts = list(build(name, dropout_rate=0.0).modules())
        assert {part.p for part in parts if isinstance(part, (nn.Dropout, StochasticDepth))} == {0}
    with torch.device("meta"):
        noised = build("efficientnet_b0", dropout_rate=0.3, stochastic_depth_rate=0.0).modules()
    depths = [part.p for part in noised if isinstance(part, StochasticDepth)]
    assert depths
    assert not any(depths)


def test_a_wide_resnet_takes_both_kinds_of_noise() -> None:
    network = build("wrn_10_1", dropout_rate=0.5, stochastic_depth_rate=0.5)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        assert not torch.equal(network(images), network(images))
        network.eval()
        assert torch.equal(network(images), network(images))


def test_noise_that_a_network_lacks_is_refused_by_name() -> None:
    message = refused("resnet18", dropout_rate=0.1)
    assert "takes no dropout_rate;" in message
    assert "timm/resnet18" in message
    both = refused("torchvision/squeezenet1_1", dropout_rate=0.1, stochastic_depth_rate=0.1)
    assert "takes no stochastic_depth_rate;" in both
    assert "drop_path_rate" in refused("timm/vgg11", stochastic_depth_rate=0.1)


@pytest.mark.parametrize(
    ("name", "least"), [("squeezenet1_1", 17), ("timm/test_vit", 16), ("alexnet", 63)]
)
def test_too_small_images_are_refused_with_the_least_size(name: str, least: int) -> None:
    message = refused(name, image_size=8, stem="standard")
    assert "8×8" in message
    assert f"least data.image_size or model.input_size is {least}" in message
    refused(name, image_size=least - 1, stem="standard")
    build(name, image_size=least, stem="standard")


def test_the_refused_size_is_named_by_the_parameter_that_says_it() -> None:
    message = refused("vgg11", image_size=64, input_size=24)
    assert "24×24" in message
    assert "least model.input_size is 32" in message


@pytest.mark.parametrize("name", ["resnet_small", "shufflenet_v2_x0_5", "test_resnet"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_seed_alone_decides_the_weights(name: str, channels: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = build(name, seed=3, channels=channels)
        torch.manual_seed(2)
        second = build(name, seed=3, channels=channels)
        other = build(name, seed=4, channels=channels)
    assert same_tensors(first.state_dict(), second.state_dict())
    assert not same_tensors(first.state_dict(), other.state_dict())


def test_building_leaves_the_default_generator_alone() -> None:
    before = torch.get_rng_state()
    build("resnet_small")
    build("test_resnet", channels=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_checking_the_size_leaves_running_statistics_alone() -> None:
    for name, value in tiny_network().state_dict().items():
        if name.endswith(("running_mean", "num_batches_tracked")):
            assert not value.any()


@pytest.mark.parametrize(("side", "real"), [(64, True), (1024, False)])
def test_large_images_are_tried_by_their_shapes_alone(side: int, real: bool) -> None:
    seen = set[str]()
    hook = register_module_forward_pre_hook(
        lambda module, inputs: seen.add(inputs[0].device.type) if inputs else None
    )
    try:
        build_network("resnet_small", num_classes=2, channels=3, image_size=side, seed=0)
    finally:
        hook.remove()
    assert seen == {"cpu" if real else "meta"}
