"""Where the weights of networks that say a class of each pixel come from, and how they train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import ParameterError
from pipeline.models.build import build_network
from pipeline.models.checkpoint import load_checkpoint, network_of, save_checkpoint
from pipeline.models.packaged import read_packaged
from pipeline.models.parts import head_names
from pipeline.models.pretrained import Weights, load_weights, published_normalization, read_folder
from pipeline.train.transfer import layer_rates, start_from
from tests.models.test_dense import EACH, LITE0, built, images
from tests.tiny import same_tensors, tiny_spec


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
        network_spec: dict[str, Any] = {"name": name, "width": 4}
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


def test_the_normalisation_is_that_of_the_body() -> None:
    assert published_normalization(f"unet/{LITE0}") == published_normalization(f"timm/{LITE0}")
    expected = published_normalization("torchvision/resnet50")
    assert published_normalization("fcn_resnet50") == expected
    assert published_normalization("unet_small") == (None, None)
