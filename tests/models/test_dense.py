"""Networks that say a class of each pixel: their shapes, gradients and pretrained bodies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import ModelError, ParameterError
from pipeline.models.build import build_network
from pipeline.models.checkpoint import load_checkpoint, network_of, save_checkpoint
from pipeline.models.dense import Dense
from pipeline.models.packaged import read_packaged
from pipeline.models.parts import features, head_names, network_parts
from pipeline.models.passes import Passes, operations, run_pass
from pipeline.models.pretrained import Weights, load_weights, published_normalization, read_folder
from pipeline.models.stem import resized
from pipeline.train.transfer import layer_rates, start_from
from tests.tiny import count_parameters, same_tensors, tiny_spec

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
    F.cross_entropy(
        network(images(64)), torch.arange(2)[:, None, None].expand(2, 64, 64)
    ).backward()
    without = [key for key, weight in network.named_parameters() if not bool(weight.grad.any())]
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


@pytest.mark.parametrize("name", EACH)
def test_a_classifier_that_is_new_finds_all_classes_alike(name: str) -> None:
    network = built(name)
    start_from(network, Weights(dict(network.state_dict())), source="x", classes=["a"])
    assert not network.eval()(images(32)).any()
    decoder = set(network.head.state_dict()) - {
        key.removeprefix("head.") + end
        for key in head_names(network)
        for end in (".weight", ".bias")
    }
    assert any(network.head.state_dict()[key].any() for key in decoder)


@pytest.mark.parametrize("decoder", ["unet", "deeplabv3plus"])
@pytest.mark.parametrize("channels", [1, 3])
def test_packaged_weights_are_those_of_the_body(decoder: str, channels: int) -> None:
    weights = read_packaged(f"{decoder}/{LITE0}")
    network = built(f"{decoder}/{LITE0}", channels=channels)
    before = {key: value.clone() for key, value in network.head.state_dict().items()}
    fitted = load_weights(network, weights, head=False, source="packaged")
    keys = {f"body.{key}" for key in network.body.state_dict()}
    assert set(fitted.loaded) == keys
    assert same_tensors(network.head.state_dict(), before)
    for key in keys - {"body.model.conv_stem.weight"}:
        own = network.state_dict()[key]
        assert torch.equal(own, weights.tensors[key.removeprefix("body.model.")])
    stem = weights.tensors["conv_stem.weight"]
    expected = stem if channels == 3 else stem.sum(dim=1, keepdim=True)
    assert torch.equal(network.get_parameter("body.model.conv_stem.weight"), expected)


def test_packaged_weights_are_of_one_body() -> None:
    with pytest.raises(ParameterError, match=f"set model.name: unet/{LITE0}"):
        read_packaged("unet/resnet18")


@pytest.mark.parametrize(
    ("dense", "body"),
    [
        ("unet/convnext_atto", "timm/convnext_atto"),
        ("unet/resnet18", "torchvision/resnet18"),
        ("lraspp_mobilenet_v3_large", "torchvision/mobilenet_v3_large"),
    ],
)
def test_weights_of_a_library_s_classifier_are_those_of_the_body(dense: str, body: str) -> None:
    plain = build_network(
        body, num_classes=7, channels=3, image_size=64, seed=1, stem="standard"
    ).state_dict()
    network = built(dense)
    fitted = load_weights(network, Weights(plain), head=False, source="x")
    assert set(fitted.loaded) == {f"body.{key}" for key in network.body.state_dict()}
    assert {value.sum().item() for value in network.body.state_dict().values()} <= {
        value.sum().item() for value in plain.values()
    }


def test_weights_of_torchvision_s_whole_network_fit() -> None:
    from torchvision import models

    whole: Any = models.get_model(
        "lraspp_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=21
    )
    network = built("lraspp_mobilenet_v3_large")
    load_weights(network, Weights(whole.state_dict()), head=False, source="x")
    assert same_tensors(network.body.state_dict(), whole.backbone.state_dict())
    ours, theirs = network.head.state_dict(), whole.classifier.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours if key.startswith("cbr"))


def test_a_model_folder_comes_back_and_teaches_whole(tmp_path: Path) -> None:
    for name in ("unet_small", f"deeplabv3plus/{LITE0}"):
        network_spec = {"name": name, "width": 4}
        spec = tiny_spec(network=network_spec, task="segmentation")
        network = network_of(spec, seed=3)
        save_checkpoint(tmp_path / "m", network.state_dict(), spec)
        loaded = load_checkpoint(tmp_path / "m")
        assert loaded.spec == spec
        assert same_tensors(loaded.network.state_dict(), network.state_dict())
        weights = read_folder(tmp_path / "m")
        student = network_of(spec, seed=4)
        start_from(student, weights, source="teacher", classes=list(spec.classes))
        assert same_tensors(student.state_dict(), network.state_dict())
        other = build_network(num_classes=9, channels=1, image_size=8, seed=4, **network_spec)
        start_from(other, weights, source="m", classes=list("abcdefghi"))
        assert not other.get_parameter("head.classifier.weight").any()
        state, own = other.state_dict(), network.state_dict()
        assert all(torch.equal(state[key], own[key]) for key in own if "classifier" not in key)


def test_weights_of_other_widths_do_not_fit(tmp_path: Path) -> None:
    wide = tiny_spec(network={"name": "unet_small", "width": 8})
    save_checkpoint(tmp_path / "m", network_of(wide).state_dict(), wide)
    weights, network = read_folder(tmp_path / "m"), built("unet_small", channels=1)
    with pytest.raises(ParameterError, match="of the body's"):
        load_weights(network, weights, head=False, source="m")


def test_the_body_learns_slower_than_the_head_and_its_first_stages_stay() -> None:
    network = built(f"unet/{LITE0}")
    rates = layer_rates(network, body_learning_rate=0.1, layer_decay=0.5)
    assert {rate for key, rate in rates.items() if key.startswith("head.")} == {1.0}
    last, stem = "body.model.blocks.6.0.conv_pw.weight", "body.model.conv_stem.weight"
    assert (rates[last], rates[stem]) == (0.1, 0.1 * 0.5**7)
    weights = Weights(dict(network.state_dict()))
    start_from(network, weights, source="x", classes=["a"], frozen_stages=2, freeze_statistics=True)
    still = {key for key, weight in network.named_parameters() if not weight.requires_grad}
    assert {key.rpartition(".")[0].split(".blocks.")[-1][0] for key in still} >= {"0"}
    assert all(".blocks.1" not in key and key.startswith("body.") for key in still)
    assert stem in still


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


def test_the_normalisation_is_that_of_the_body() -> None:
    assert published_normalization(f"unet/{LITE0}") == published_normalization(f"timm/{LITE0}")
    expected = published_normalization("torchvision/resnet50")
    assert published_normalization("fcn_resnet50") == expected
    assert published_normalization("unet_small") == (None, None)


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
