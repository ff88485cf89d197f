"""The model logged to MLflow: the same answers as the network, no pickle, no repository."""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image

from pipeline.data.images import decode
from pipeline.errors import DataError
from pipeline.evaluate.classifier import load_classifier
from pipeline.evaluate.classify import classify
from pipeline.models.checkpoint import load_checkpoint, network_of, save_checkpoint
from pipeline.models.spec import ModelSpec
from pipeline.tracking.model import save_model
from pipeline.tracking.server import tracking_uri
from tests.data.hostile_images import tiled_tiff
from tests.tiny import save_model as save_model_folder
from tests.tracking.isolated import Isolated, post
from tests.tracking.tracked import QUIET_MLFLOW, send_all, tracked

pytestmark = [*QUIET_MLFLOW, pytest.mark.filterwarnings("ignore:.*input example:UserWarning")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    spec = ModelSpec(
        network={"name": "resnet_small", "width": 4},
        classes=["cat", "dog", "label"],
        image_size=16,
        channels=1,
        mean=[0.4],
        std=[0.2],
        generation="0",
        temperature=2.0,
    )
    folder = tmp_path / "models" / "0"
    save_checkpoint(folder, network_of(spec, seed=3).state_dict(), spec)
    return folder


def png(value: int, size: tuple[int, int] = (16, 16)) -> bytes:
    out = io.BytesIO()
    noise = np.random.default_rng(value).integers(0, 256, size, np.uint8)
    Image.fromarray(noise).save(out, "PNG")
    return out.getvalue()


def expected(folder: Path, images: list[bytes]) -> np.ndarray[Any, Any]:
    """The same, one image at a time and step by step."""
    loaded, rows = load_checkpoint(folder), []
    for data in images:
        pixels = decode(data, image_size=16, channels=1, max_pixels=10**6)[:, :, 0]
        scaled = (torch.tensor(pixels / 255.0, dtype=torch.float32) - 0.4) / 0.2
        logits = loaded.network(scaled[None, None]).detach().double().numpy()[0] / 2.0
        rows.append(np.exp(logits) / np.exp(logits).sum())
    return np.array(rows)


def test_classify_gives_the_networks_calibrated_probabilities(folder: Path) -> None:
    images = [png(seed, (16 + seed, 20)) for seed in range(70)]
    answer = classify(load_classifier(folder), {"image": images})
    table = answer[["probability_cat", "probability_dog", "probability_label"]].to_numpy()
    want = expected(folder, images)
    np.testing.assert_allclose(table, want, atol=1e-5)
    assert list(answer["label"]) == [["cat", "dog", "label"][k] for k in want.argmax(1)]
    np.testing.assert_allclose(answer["confidence"], want.max(1), atol=1e-5)


def test_base64_text_bytes_and_plain_lists_are_the_same_image(folder: Path) -> None:
    loaded, data = load_classifier(folder), png(1)
    text = base64.b64encode(data).decode()
    answers = [
        classify(loaded, given)
        for given in ([data], [text], data, {"image": [text]}, {"image": [[text]]})
    ]
    assert all(answer.equals(answers[0]) for answer in answers)
    assert len(classify(loaded, [])) == 0


def test_a_bad_image_says_why_and_the_others_are_answered(folder: Path) -> None:
    hostile = tiled_tiff(46_336)
    images = [png(0), b"text, no image", "no base64!", 5, "bm8gaW1hZ2U=", png(1), hostile]
    answer = classify(load_classifier(folder), images)
    np.testing.assert_allclose(
        answer["confidence"][[0, 5]].astype(float),
        expected(folder, [png(0), png(1)]).max(1),
        atol=1e-5,
    )
    assert answer["error"].isna().tolist() == [True, False, False, False, False, True, False]
    assert answer["error"][1] == answer["error"][4] == "not an image"
    assert answer["error"][2].startswith("not base64 text")
    assert answer["error"][3] == "bytes or base64 text needed, got int"
    assert answer["error"][6] == "too many pixels: 64x64 in tiles of 46336x46336"
    records = json.loads(json.dumps(answer.to_dict("records"), allow_nan=False))
    assert set(records[1]) == set(records[0])
    assert [value for key, value in records[1].items() if key != "error"] == [None] * 5


def test_a_table_needs_its_column_of_images(folder: Path) -> None:
    with pytest.raises(DataError, match="column `image`"):
        classify(load_classifier(folder), {"picture": [b""]})


@pytest.mark.parametrize("name", ["unet_small", "unet/tf_efficientnet_lite0"])
def test_a_model_of_masks_answers_with_them_wherever_it_is_loaded(
    folder: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # MLflow puts the model's code before it
    dense: dict[str, Any] = {"task": "segmentation", "network": {"name": name}, "image_size": 32}
    save_model_folder(tmp_path / "dense", **dense)
    save_model(tmp_path / "served", tmp_path / "dense")
    save_model(tmp_path / "plain", folder)
    decoders = name != "unet_small"
    for served, needed in (("served", decoders), ("plain", False)):
        requirements = (tmp_path / served / "requirements.txt").read_text()
        assert ("segmentation-models-pytorch==" in requirements) == needed
    texts = [base64.b64encode(png(1, (17, 31))).decode(), "no base64!"]
    answer = mlflow.pyfunc.load_model(str(tmp_path / "served")).predict({"image": texts})
    want = classify(load_classifier(tmp_path / "dense"), texts)
    assert answer.to_dict("records") == want.to_dict("records")
    mask = Image.open(io.BytesIO(base64.b64decode(answer["mask"][0])))
    assert (mask.mode, mask.size) == ("P", (31, 17))
    assert answer["mask"][1] is None


def jpeg(size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(out, "JPEG")
    return out.getvalue()


def palette(size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").rotate(90).resize(size).convert("RGB").quantize(16).save(out, "PNG")
    return out.getvalue()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_logged_model_is_served_without_pickle_and_without_the_repository(
    root: Path, folder: Path, no_sender: Callable[[], None], tmp_path_factory: Any
) -> None:
    for _ in range(2):  # a model logged again is there once
        with tracked(root) as tracker:
            tracker.model(folder)
        send_all(root)
    client: Any = MlflowClient(tracking_uri(root, None))
    experiments = [each.experiment_id for each in client.search_experiments()]
    (model,) = client.search_logged_models(experiments)
    assert str(model.status) == "READY"
    location = Path(model.artifact_location.removeprefix("file://"))
    assert not list(location.rglob("*.pkl"))

    needed = (location / "requirements.txt").read_text().split()
    place = Isolated.make(tmp_path_factory.mktemp("isolated"), needed)
    for hidden in ("pipeline", "ray", "dvc"):
        assert place.python("-c", f"import {hidden}").returncode != 0, hidden
    images = [jpeg((300, 200)), palette((64, 90))]
    texts = [base64.b64encode(data).decode() for data in (*images, b"garbage")]
    with place.served(location) as url:
        status, answer = post(url, {"inputs": {"image": [*texts, "no base64!"]}})
        assert status == 200, answer
        refused, message = post(url, {"inputs": {"picture": texts}})
    rows = answer["predictions"]
    want = expected(folder, images)
    names = ["cat", "dog", "label"]
    for row, probabilities in zip(rows[:2], want, strict=True):
        found = [row[f"probability_{name}"] for name in names]
        np.testing.assert_allclose(found, probabilities, atol=1e-5)
        assert row["label"] == names[probabilities.argmax()]
        assert row["error"] is None
    assert [row["label"] for row in rows[2:]] == [None, None]
    assert rows[2]["error"] == "not an image"
    assert rows[3]["error"].startswith("not base64 text")
    assert refused == 400
    assert "image" in message["message"]
    assert "Traceback" not in json.dumps(message)
