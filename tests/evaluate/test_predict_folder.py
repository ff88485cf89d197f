"""Images to masks at their own size: as the models say, named by their images, whole or not."""

from __future__ import annotations

import base64
import csv
import io
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.class_maps import palette
from pipeline.data.fit import own_pixels, place_of
from pipeline.data.images import decode
from pipeline.data.sources.loose import LooseImages
from pipeline.data.sources.rows import Row
from pipeline.errors import CheckpointError, SourceError
from pipeline.evaluate.classifier import Classifier, open_classifier
from pipeline.evaluate.classify import classify
from pipeline.evaluate.predict_folder import predict_folder
from pipeline.evaluate.recipe import Recipe
from pipeline.models.checkpoint import load_checkpoint
from selftrain.fit import Fitted
from tests.data.helpers import encoded, photo
from tests.tiny import CLASSES, save_model

SIDE = 16
WEIGHTS = {"0": 0.25, "1": 0.75}
SIZES = {"wide.png": (31, 17), "more/high, 2.jpg": (9, 40), "more/square.png": (16, 16)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    for name in WEIGHTS:
        more: dict[str, Any] = {"image_size": SIDE, "temperature": 0.2 + int(name)}
        network = {"name": "unet_small", "width": 4}
        save_model(folder / name, int(name), task="segmentation", network=network, **more)
    return {name: folder / name for name in WEIGHTS}


@pytest.fixture(scope="module")
def classifier(folders: dict[str, Path]) -> Classifier:
    return open_classifier(folders, Recipe(WEIGHTS))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    for name, size in SIZES.items():
        kind = "JPEG" if name.endswith("jpg") else "PNG"
        (folder / name).write_bytes(encoded(photo(*size), kind))
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def slow(folders: dict[str, Path], data: bytes) -> NDArray[Any]:
    """The probabilities (K, S, S) that the models give an image's square, together."""
    pixels = decode(data, image_size=SIDE, channels=1, max_pixels=10**6, whole=True)
    scaled = (torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255 - 0.3) / 0.25
    total = np.zeros((len(CLASSES), SIDE, SIDE))
    for name, weight in WEIGHTS.items():
        model = load_checkpoint(folders[name])
        logits = model.network(scaled).detach() / model.spec.temperature
        total += weight * logits.softmax(dim=1).numpy()[0]
    return total


def opened(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def read_table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "predictions.csv").open(newline="") as text:
        return {row["id"]: row for row in csv.DictReader(text)}


def test_masks_are_what_the_models_say_at_the_images_own_size(
    folders: dict[str, Path], classifier: Classifier, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new/out"
    loose = LooseImages(str(images))
    summary = predict_folder(classifier, loose, out, batch_size=3, overlay=True)
    assert (summary.classified, summary.bad) == (3, 1)
    table = read_table(out)
    shares = [f"share_{name}" for name in CLASSES]
    assert list(table["wide.png"]) == ["id", "file", "confidence", *shares, "error"]
    assert list(table["broken.png"].values()) == ["broken.png", *[""] * 5, "not an image"]
    for name, (width, height) in SIZES.items():
        mask = opened(out / table[name]["file"])
        assert table[name]["file"] == f"masks/{name[:-4]}.png"
        assert (mask.mode, mask.size) == ("P", (width, height))
        colours = mask.getpalette()
        assert colours is not None
        assert colours[: 3 * len(CLASSES)] == palette(len(CLASSES)).reshape(-1).tolist()
        whole = slow(folders, (images / name).read_bytes())
        first = np.sort(whole, axis=0)
        clear = own_pixels((first[-1] - first[-2] > 0.02).astype(np.uint8), width, height) > 0
        want = own_pixels(whole.argmax(axis=0).astype(np.uint8), width, height)
        np.testing.assert_array_equal(np.asarray(mask)[clear], want[clear])
        assert clear.mean() > 0.5
        left, top, right, bottom = place_of(width, height, SIDE)
        inner = whole[:, top:bottom, left:right]
        assert float(table[name]["confidence"]) == pytest.approx(inner.max(axis=0).mean(), abs=0.02)
        found = [float(table[name][share]) for share in shares]
        true = [(inner.argmax(axis=0) == k).mean() for k in range(len(CLASSES))]
        np.testing.assert_allclose(found, true, atol=0.1)
        assert sum(found) == pytest.approx(1, abs=1e-5)
        assert opened(out / f"overlays/{name[:-4]}.jpg").size == (width, height)
    assert sorted(path.name for path in out.iterdir()) == ["masks", "overlays", "predictions.csv"]
    predict_folder(classifier, loose, out)
    assert sorted(path.name for path in out.iterdir()) == ["masks", "predictions.csv"]


class Named:
    """The same image by some names; one that is None can't be had."""

    def __init__(self, *names: str | None) -> None:
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def rows(self) -> Iterator[Row]:
        for name in self.names:
            if name is None:
                raise OSError("disk gone")
            yield Row(name, encoded(photo(8, 8)))


def test_a_path_out_of_the_current_folder_names_its_mask(
    classifier: Classifier, tmp_path: Path
) -> None:
    predict_folder(classifier, Named("../more/1.png", "/../2.png"), tmp_path / "out")
    files = [row["file"] for row in read_table(tmp_path / "out").values()]
    assert files == ["masks/more/1.png", "masks/2.png"]
    assert all((tmp_path / "out" / name).is_file() for name in files)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/1.png", "a/1.jpg"], "'a/1.jpg': its answer would have the name of another image's"),
        (["1", "1"], "'1': its answer would have the name"),
        (["a.png.jpg", "a.png.png/b.png"], "'a.png.png/b.png': its answer would have the name"),
        (["a/../../1.png"], "'a/../../1.png': can't name a file in the folder of answers"),
        (["../a/../1.png"], "can't name a file"),
        ([".."], "can't name a file"),
        (["../1.png", "1.png"], "'1.png': its answer would have the name"),
        (["a\n.png"], "can't name a file"),
        (["a\0.png"], "can't name a file"),
        (["x" * 300], "can't name a file"),
        (["/"], "can't name a file"),
        ([""], "can't name a file"),
        (["."], "can't name a file"),
    ],
)
def test_names_that_clash_or_lead_away_are_refused_and_nothing_is_written(
    classifier: Classifier, tmp_path: Path, names: list[str], message: str
) -> None:
    with pytest.raises(SourceError) as raised:
        predict_folder(classifier, Named(*names), tmp_path / "out")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_any_other_name_is_that_of_its_mask(classifier: Classifier, tmp_path: Path) -> None:
    names = ["/data/1.png", "t.parquet:3", "img.0001", "img.0002", "a\\b.png", "ä b.JPG"]
    predict_folder(classifier, Named(*names), tmp_path / "out")
    files = [row["file"].removeprefix("masks/") for row in read_table(tmp_path / "out").values()]
    stems = ["data/1", "t.parquet:3", "img.0001", "img.0002", "a\\b", "ä b"]
    assert files == [f"{stem}.png" for stem in stems]
    assert all((tmp_path / "out/masks" / file).is_file() for file in files)


def test_a_folder_is_written_whole_or_not_at_all(classifier: Classifier, tmp_path: Path) -> None:
    predict_folder(classifier, Named("a"), tmp_path / "out")
    with pytest.raises(OSError, match="disk gone"):
        predict_folder(classifier, Named("b", None), tmp_path / "out", batch_size=1)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert list(read_table(tmp_path / "out")) == ["a"]


def test_memory_does_not_grow_with_the_images(classifier: Classifier, tmp_path: Path) -> None:
    peaks = []
    for count in (20, 80):
        named = Named(*(f"{number}/1" for number in range(count)))
        tracemalloc.start()
        predict_folder(classifier, named, tmp_path / "out", batch_size=4)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_a_served_model_answers_with_masks(classifier: Classifier, images: Path) -> None:
    data = [(images / name).read_bytes() for name in SIZES]
    answer = classify(classifier, [*data, b"no image"])
    shares = [f"share_{name}" for name in CLASSES]
    assert list(answer) == ["mask", "confidence", *shares, "error"]
    for text, (width, height) in zip(answer["mask"], SIZES.values(), strict=False):
        mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
        assert mask.shape == (height, width)
        assert mask.max() < len(CLASSES)
    records = json.loads(json.dumps(answer.to_dict("records"), allow_nan=False))
    assert [records[0]["error"], records[-1]["error"]] == [None, "not an image"]
    assert set(records[-1].values()) == {None, "not an image"}
    assert list(classify(classifier, [])) == list(answer)


def test_masks_from_python(classifier: Classifier, images: Path, tmp_path: Path) -> None:
    project = Fitted(tmp_path)
    project.__dict__["classifier"] = classifier
    first, bad = project.predict([images / "wide.png", b"no image"])
    assert first.label.shape == (17, 31)
    assert 1 / 3 < first.confidence <= 1
    assert bad == (None, 0.0, "not an image")


def test_models_of_two_tasks_are_no_ensemble(folders: dict[str, Path], tmp_path: Path) -> None:
    save_model(tmp_path / "1", image_size=SIDE)
    models = {"0": folders["0"], "1": tmp_path / "1"}
    with pytest.raises(CheckpointError, match="of other classes, or for other images"):
        open_classifier(models, Recipe(WEIGHTS))
