"""onnxruntime says of real digits what torch says, normalisation and temperature included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pipeline.evaluate.classifier import open_classifier
from pipeline.evaluate.recipe import Recipe
from pipeline.models.build import build_network
from pipeline.models.checkpoint import load_checkpoint, network_of, save_checkpoint
from pipeline.models.onnx_export import PixelClassifier, export_onnx
from pipeline.train.fit import fit
from pipeline.train.training_data import TrainingData
from tests.tiny import PLAIN, save_model, tiny_spec, train_params

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    values, labels = load_digits(return_X_y=True)
    pixels = np.round(values * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    return torch.from_numpy(pixels), torch.from_numpy(labels)


def session(path: Path) -> Any:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.slow
def test_onnxruntime_agrees_on_digits(tmp_path: Path) -> None:
    images, labels = digits()
    network: dict[str, Any] = {"name": "resnet_small", "width": 8}
    spec = tiny_spec(
        network=network, classes=[str(n) for n in range(10)], temperature=1.7, generation="2"
    )
    net = build_network(
        network["name"], num_classes=10, channels=1, image_size=8, seed=0, width=network["width"]
    )
    data = TrainingData(images[:300], labels[:300], (0.3,), (0.25,))
    weights = fit(net, data, train=train_params(steps=60, batch_size=32), augment=PLAIN, seed=0)
    save_checkpoint(tmp_path / "2", weights, spec)
    model = load_checkpoint(tmp_path / "2")
    export_onnx([(model, 1.0)], tmp_path / "model.onnx")

    served = session(tmp_path / "model.onnx")
    classifier = open_classifier({"2": tmp_path / "2"}, Recipe({"2": 1.0}))
    for count in (1, 7, 1000):
        some = images[300 : 300 + count]
        (found,) = served.run(None, {"images": some.numpy()})
        want = np.exp(classifier.predictions(some))
        np.testing.assert_allclose(found, want, atol=1e-4)
    assert (found.argmax(1) == labels[300:1300].numpy()).mean() > 0.7
    about = served.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == spec.classes
    assert (about["image_size"], about["channels"], about["generation"]) == ("8", "1", "2")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["model.onnx"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("unet_small", {"width": 4}),
        ("unet/tf_efficientnet_lite0", {}),
        ("deeplabv3plus/tf_efficientnet_lite0", {"input_size": 32}),
    ],
)
def test_each_pixel_s_probabilities_agree(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    spec = tiny_spec(
        network={"name": name, **options}, task="segmentation", temperature=1.3, image_size=28
    )
    save_checkpoint(tmp_path / "0", network_of(spec, seed=1).state_dict(), spec)
    members = [(load_checkpoint(tmp_path / "0"), 1.0)]
    export_onnx(members, tmp_path / "model.onnx", keeps_whole=True)
    served = session(tmp_path / "model.onnx")
    generator = torch.Generator().manual_seed(0)
    for count in (1, 5):
        images = torch.randint(0, 256, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)
        (found,) = served.run(None, {"images": images.numpy()})
        with torch.no_grad():
            want = PixelClassifier(members)(images)
        assert found.shape == (count, len(spec.classes), 28, 28)
        np.testing.assert_allclose(found, want, atol=1e-4)
    assert "letterboxed" in served.get_modelmeta().custom_metadata_map["preprocessing"]


def test_an_ensemble_is_the_weighted_mean_of_its_models(tmp_path: Path) -> None:
    save_model(tmp_path / "0", seed=1, temperature=0.5)
    save_model(tmp_path / "1", seed=2, mean=[0.6])
    recipe = Recipe({"0": 0.25, "1": 0.75})
    classifier = open_classifier({key: tmp_path / key for key in ("0", "1")}, recipe)
    members = [(model, recipe.weights[name]) for name, model in classifier.models.items()]
    images = digits()[0][:50]
    with torch.no_grad():
        found = PixelClassifier(members)(images)
    np.testing.assert_allclose(found, np.exp(classifier.predictions(images)), atol=1e-5)
