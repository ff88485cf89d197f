"""Networks that say a class of each pixel: their shapes, gradients and pretrained bodies."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import ModelError
from pipeline.models.build import build_network
from pipeline.models.dense import Dense
from pipeline.models.parts import features, head_names, network_parts
from pipeline.models.passes import Passes, operations, run_pass
from pipeline.models.stem import resized
from tests.tiny import count_parameters

LITE0 = "tf_efficientnet_lite0"
NAMES = (
    "unet_small",
    f"unet/{LITE0}",
    f"deeplabv3plus/{LITE0}",
    "unet/convnext_atto",
    "lraspp_mobilenet_v3_large",
)
LARGE = (
    "unet/resnet18",
    "unet/vgg11",
    "deeplabv3plus/resnet18",
    "torchvision/fcn_resnet50",
    "deeplabv3_resnet50",
    "deeplabv3_mobilenet_v3_large",
)
EACH = (*NAMES, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE))


def built(name: str, side: int = 32, classes: int = 5, channels: int = 3, **others: Any) -> Dense:
    options = {"num_classes": classes, "channels": channels, "image_size": side, "seed": 0}
    network = build_network(name, **(options | others))
    assert isinstance(network, Dense)
    return network


def images(side: int, channels: int = 3, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(side)
    return torch.randn(count, channels, side, side, generator=generator)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", EACH)
def test_logits_have_the_side_of_the_images(name: str, channels: int) -> None:
    network = built(name, 8, channels=channels).eval()
    with torch.no_grad():
        for side in (8, 33, 60):
            assert network(images(side, channels)).shape == (2, 5, side, side)


@pytest.mark.parametrize("options", [{"stem_stride": 2}, {"width": 1}, {"width": 3, "depth": 2}])
def test_sizes_of_the_small_unet(options: dict[str, int]) -> None:
    network = built("unet_small", 8, **options).eval()
    with torch.no_grad():
        for side in (8, 20, 31):
            assert network(images(side)).shape == (2, 5, side, side)


def test_the_small_unet_has_so_many_parameters() -> None:
    w, classes = 16, 10
    stem = 9 * w + 2 * w
    body = head = 0
    for inputs in (w, 2 * w, 4 * w):
        outputs = 2 * inputs  # two convolutions and a shortcut, each with its normalisation
        body += 9 * inputs * outputs + 9 * outputs**2 + inputs * outputs + 6 * outputs
        head += outputs * inputs + 9 * inputs**2 + 2 * inputs
    network = built("unet_small", classes=classes, channels=1, width=w)
    assert count_parameters(network) == stem + body + head + (w + 1) * classes == 362_106


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_framed_by_its_border_and_the_frame_cut_off(name: str) -> None:
    network = built(name, 50).eval()
    framed, other = images(50), -(-50 // network.stride) * network.stride
    before = (other - 50) // 2
    with torch.no_grad():
        whole = network(F.pad(framed, (before, other - 50 - before) * 2, mode="replicate"))
        expected = whole[..., before : before + 50, before : before + 50]
        torch.testing.assert_close(network(framed), expected)


@pytest.mark.parametrize("name", ["unet_small", f"unet/{LITE0}"])
@pytest.mark.parametrize("input_size", [32, 64])
def test_resized_images_have_logits_at_their_own_side(name: str, input_size: int) -> None:
    network = built(name, 48, input_size=input_size).eval()
    plain = built(name, 48).eval()
    pixels = images(48)
    with torch.no_grad():
        seen = plain(resized(pixels, input_size))
        torch.testing.assert_close(network(pixels), F.interpolate(seen, (48, 48), mode="bilinear"))


@pytest.mark.parametrize("name", EACH)
def test_every_weight_gets_a_gradient(name: str) -> None:
    network = built(name, 64)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # timm's ResNets begin with the last of a block at 0
            nn.init.ones_(module.weight)
    loss = F.cross_entropy(network(images(64)), torch.arange(2)[:, None, None].expand(2, 64, 64))
    torch.autograd.backward(loss)
    without = [
        key
        for key, weight in network.named_parameters()
        if weight.grad is None or not weight.grad.any()
    ]
    assert not without


@pytest.mark.parametrize("name", EACH)
def test_parts_are_the_body_s_stages_and_the_decoder_with_its_classifier(name: str) -> None:
    network = built(name)
    parts = network_parts(network)
    assert parts.head == ("head",)
    assert len(parts.stages) >= 4
    for key, _ in network.named_parameters():
        assert (parts.stage_of(key) is None) == key.startswith("head.")
    assert all(name.startswith("head.") for name in head_names(network))
    assert features(network.eval(), images(32)).ndim == 2


def test_noise_is_where_it_can_be() -> None:
    network = built(f"unet/{LITE0}", dropout_rate=0.3, stochastic_depth_rate=0.2)
    dropout = network.head.get_submodule("dropout")
    assert isinstance(dropout, nn.Dropout2d)
    assert dropout.p == 0.3
    assert 0.1 < max(getattr(module, "drop_prob", 0) for module in network.modules()) <= 0.2
    small = built("unet_small", stochastic_depth_rate=0.3)
    rates = [module.skip_rate for module in small.modules() if hasattr(module, "skip_rate")]
    assert rates == pytest.approx([0.1, 0.2, 0.3])
    for name in NAMES:
        quiet = built(name).modules()
        assert not any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p for m in quiet)
    with pytest.raises(ModelError, match="takes no dropout_rate or stochastic_depth_rate"):
        built("lraspp_mobilenet_v3_large", dropout_rate=0.1, stochastic_depth_rate=0.1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unet/tf_efficientnet_lite", "no such body; did you mean tf_efficientnet_lite"),
        ("unet/vit_tiny_patch16_224", "choose a body with features at several strides"),
        ("unet/", "neither torchvision nor timm has it"),
    ],
)
def test_a_wrong_body_is_refused_in_a_line(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        built(name)
    assert "\n" not in str(caught.value)


def test_a_stem_of_their_own_is_all_they_have() -> None:
    with pytest.raises(ModelError, match=r"model\.stem = 'small'"):
        built(f"unet/{LITE0}", stem="small")


def test_passes_count_and_fill_up() -> None:
    network = built("unet_small", channels=1).eval()
    assert operations(network, (1, 32, 32)) > 1e6
    pixels = images(32, 1, 5)
    with torch.inference_mode():
        filled = run_pass(network, pixels, Passes(images=8, channels_last=True))
        torch.testing.assert_close(filled, network(pixels), rtol=1e-4, atol=1e-5)


def test_names_are_known_without_torch_and_their_libraries_come_late() -> None:
    code = """
import sys
from pipeline.params.dense import is_dense
import pipeline.params
assert is_dense("unet/x") and is_dense("torchvision/fcn_resnet50") and not is_dense("unet")
assert "torch" not in sys.modules
from pipeline.models.build import build_network
build_network("unet_small", num_classes=2, channels=1, image_size=8, seed=0)
print([name for name in ("timm", "torchvision", "segmentation_models_pytorch")
       if name in sys.modules])
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout.strip() == "[]"
