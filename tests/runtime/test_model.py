"""The model logged to MLflow: the same answers as the network, no pickle, no repository."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image

from pipeline.data.images import decode
from pipeline.errors import DataError
from pipeline.models.checkpoint import load_checkpoint, network_of, save_checkpoint
from pipeline.models.spec import ModelSpec
from pipeline.runtime import tracking_sender
from pipeline.runtime.classify import classify
from pipeline.runtime.tracking import Tracker, last_error, tracking_uri
from tests.runtime.conftest import python

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*[Tt]ype hint:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*input example:UserWarning"),
]

LOAD = """
import base64, json, sys
sys.path.remove('')
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
import pipeline
images = [base64.b64decode(text) for text in json.loads(sys.argv[2])]
answer = model.predict(pd.DataFrame({"image": images}))
print(json.dumps({"package": pipeline.__file__, "ray": "ray" in sys.modules,
                  "answer": answer.to_dict("list")}))
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
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


def test_classify_gives_the_networks_calibrated_probabilities(checkpoint: Path) -> None:
    images = [png(seed, (16 + seed, 20)) for seed in range(70)]
    answer = classify(load_checkpoint(checkpoint), {"image": images})
    table = answer[["probability_cat", "probability_dog", "probability_label"]].to_numpy()
    want = expected(checkpoint, images)
    np.testing.assert_allclose(table, want, atol=1e-5)
    assert list(answer["label"]) == [["cat", "dog", "label"][k] for k in want.argmax(1)]
    np.testing.assert_allclose(answer["confidence"], want.max(1), atol=1e-5)


def test_base64_text_bytes_and_plain_lists_are_the_same_image(checkpoint: Path) -> None:
    loaded, data = load_checkpoint(checkpoint), png(1)
    text = base64.b64encode(data).decode()
    answers = [classify(loaded, given) for given in ([data], [text], data, {"image": [text]})]
    assert all(answer.equals(answers[0]) for answer in answers)
    assert len(classify(loaded, [])) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"picture": [b""]}, "column `image`"),
        ([b"text, no image"], "image 0"),
        ([png(0), "no base64!"], "image 1: not base64"),
        ([png(0), 5], "image 1: .*int"),
    ],
)
def test_what_is_no_image_is_refused_by_row(checkpoint: Path, given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        classify(load_checkpoint(checkpoint), given)


@pytest.mark.slow
def test_the_logged_model_loads_without_pickle_and_without_the_repository(
    root: Path, checkpoint: Path, no_sender: Callable[[], None]
) -> None:
    for _ in range(2):  # a model logged again is there once
        with Tracker(
            root, run_key="k", name="train@0", lineage_key="l", lineage_name="d", tags={}
        ) as tracker:
            tracker.model(checkpoint)
        assert tracking_sender.run(root, linger_s=0.0) == 0, last_error(root)
    client: Any = MlflowClient(tracking_uri(root, None))
    experiments = [each.experiment_id for each in client.search_experiments()]
    (model,) = client.search_logged_models(experiments)
    assert str(model.status) == "READY"
    location = model.artifact_location.removeprefix("file://")
    assert not list(Path(location).rglob("*.pkl"))
    images = [png(1), png(2)]
    texts = json.dumps([base64.b64encode(data).decode() for data in images])
    environment = {"PYTHONPATH": "", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    with python("-W", "ignore", "-c", LOAD, location, texts, **environment) as process:
        out, _ = process.communicate(timeout=120)
    found = json.loads(out.splitlines()[-1])
    assert Path(found["package"]).is_relative_to(location)
    assert not found["ray"]
    want = expected(checkpoint, images)
    np.testing.assert_allclose(found["answer"]["confidence"], want.max(1), atol=1e-5)
