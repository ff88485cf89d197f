from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipeline.evaluate.views import predict_log_probs
from pipeline.models.build import build_network, seen_side
from pipeline.models.checkpoint import Checkpoint, load_checkpoint, network_of, save_checkpoint
from pipeline.models.onnx_export import PixelClassifier, export_onnx
from pipeline.models.passes import operations
from tests.tiny import same_tensors, striped, tiny_network, tiny_spec

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


@pytest.mark.parametrize("side", [17, 24, 40])
def test_the_network_may_see_larger_images_than_are_stored(side: int) -> None:
    plain = tiny_network(image_size=side).eval()
    places = ((torch.arange(side) + 0.5) * 16 / side - 0.5).clamp(0, 15)
    weights = (1 - (places[:, None] - torch.arange(16)).abs()).clamp(min=0)  # the two nearest
    large = weights @ IMAGES @ weights.T
    with torch.no_grad():
        torch.testing.assert_close(shrinking(input_size=side)(IMAGES), plain(large))


def test_a_model_that_enlarges_is_kept_predicts_and_is_exported(tmp_path: Path) -> None:
    spec = tiny_spec(network={"name": "resnet_small", "width": 4, "input_size": 20})
    network, pixels = network_of(spec).eval(), striped(torch.arange(12) % 3, 0)
    save_checkpoint(tmp_path / "model", network.state_dict(), spec)
    loaded = load_checkpoint(tmp_path / "model")
    enlarged = F.interpolate((pixels / 255 - 0.3) / 0.25, (20, 20), mode="bilinear")
    with torch.no_grad():
        expected = tiny_network(image_size=20).eval()(enlarged).log_softmax(dim=1).numpy()
        probabilities = PixelClassifier([(loaded, 1.0)])(pixels)
    found = predict_log_probs(loaded.network, pixels, mean=spec.mean, std=spec.std)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(probabilities, np.exp(expected), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("side", [20, 8])
def test_a_network_that_resizes_is_the_same_in_onnx(tmp_path: Path, side: int) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network = {"name": "resnet_small", "width": 4, "input_size": side}
    spec, pixels = tiny_spec(network=network, image_size=16), (IMAGES * 255).to(torch.uint8)
    model = Checkpoint(network_of(spec).eval(), spec)
    export_onnx([(model, 1.0)], tmp_path / "m.onnx")
    served = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    with torch.no_grad():
        expected = PixelClassifier([(model, 1.0)])(pixels)
    (found,) = served.run(None, {"images": pixels.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_work_of_a_pass_is_that_of_the_images_that_the_network_sees() -> None:
    plain = operations(tiny_network(image_size=24).eval(), (1, 24, 24))
    assert operations(shrinking(input_size=24), (1, 16, 16)) == plain


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
        ("efficientnet", 64, 128, 0, 128),
        ("resnet_small", 32, 96, 0, 96),
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
