from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pipeline.errors import ModelError
from pipeline.evaluate.views import predict
from pipeline.models.build import build_network, network_side
from pipeline.models.checkpoint import Checkpoint, load_checkpoint, network_of, save_checkpoint
from pipeline.models.library import library_network
from pipeline.models.onnx_export import PixelClassifier, export_onnx
from pipeline.models.passes import operations
from pipeline.models.stem import first_convolution, fit_stem
from pipeline.tasks.classification import TASK
from tests.tiny import same_tensors, striped, tiny_network, tiny_spec


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
    found = predict(loaded.network, pixels, TASK, mean=spec.mean, std=spec.std)
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
    assert network_side(name, stored, asked, compound) == seen


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
