"""selftrain.pick and selftrain.answers where each pixel has a class: masks go out and come back."""

from __future__ import annotations

import base64
import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from ruamel.yaml import YAML

import selftrain.answers
import selftrain.pick
from pipeline.data.answers.brush import unpack_brush
from pipeline.data.answers.choices import image_name
from pipeline.data.answers.corrected_masks import FOLDER
from pipeline.data.class_maps import read_masks
from pipeline.data.masks import IGNORED
from pipeline.data.predictions import predictions_table
from pipeline.data.shards import iter_shards, shard_name, write_manifest, write_shard
from pipeline.data.sources import open_source
from pipeline.tasks import open_task
from tests.data.helpers import ids, run_prepare

TASK = open_task("segmentation")
ROOT = Path(__file__).parents[2]
CLASSES = ["background", "disc"]
WIDTH, HEIGHT, SIDE = 48, 32, 24


def disc(number: int) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    at = 8 + number
    return np.asarray((rows - HEIGHT // 2) ** 2 + (columns - at) ** 2 < 60, np.uint8)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder after prepare: 24 images with masks of discs, 8 without."""
    scenes = tmp_path / "scenes"
    for name in ("images", "masks"):
        (scenes / name).mkdir(parents=True)
    for number in range(32):
        noise = np.random.default_rng(number).integers(0, 80, (HEIGHT, WIDTH, 3), np.uint8)
        pixels = noise + 150 * disc(number)[:, :, None]
        Image.fromarray(pixels.astype(np.uint8)).save(scenes / f"images/{number:02}.png")
        if number < 24:
            Image.fromarray(disc(number)).save(scenes / f"masks/{number:02}.png")
    (scenes / "classes.txt").write_text("\n".join(CLASSES))
    yaml = YAML()
    params = yaml.load((ROOT / "presets/digit_scenes_segmentation.yaml").read_text())
    params["data"] = {"source": "masks", "path": "scenes", "image_size": SIDE, "channels": 3}
    params["data"] |= {"corrections": "corrections.csv"}
    yaml.dump(params, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    return tmp_path


def prepare(project: Path, corrections: Path | None = None) -> Any:
    source = open_source("masks", str(project / "scenes"), seed=0)
    form: dict[str, Any] = {"image_size": SIDE, "channels": 3, "images_per_shard": 5}
    form |= {"near_duplicate_distance": 0.0}
    return run_prepare(source, project / "prepared", task=TASK, corrections=corrections, **form)


def teach(project: Path) -> None:
    """What a teacher thinks of the unlabelled images: half of each is a disc, of the last two all
    pixels are in doubt."""
    names = ids(project / "prepared", "unlabeled")
    maps = np.zeros((len(names), 4, SIDE, SIDE), np.uint8)
    maps[:, 0, :, : SIDE // 2] = 1
    maps[:, 1] = 1 - maps[:, 0]
    maps[:, 2], maps[:, 3] = 250, 5
    maps[-2:, 2], maps[-2:, 3] = 130, 125
    entries = []
    for number, start in enumerate(range(0, len(names), 5)):
        some = slice(start, start + 5)
        table = predictions_table(names[some], number, TASK.prediction_columns(maps[some]))
        entries.append(write_shard(project / "predictions/1" / shard_name(number), table))
    write_manifest(project / "predictions/1", entries, {"num_classes": 2})


def run(monkeypatch: pytest.MonkeyPatch, command: str, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", [command, *arguments])
    return {"pick": selftrain.pick.main, "answers": selftrain.answers.main}[command]()


def tasks_of(project: Path) -> list[dict[str, Any]]:
    value: list[dict[str, Any]] = json.loads(
        (project / "pick/label_studio/tasks.json").read_text(encoding="utf-8")
    )
    return value


def exported(project: Path, tasks: list[dict[str, Any]]) -> None:
    (project / "export.json").write_text(json.dumps(tasks), encoding="utf-8")


def learnt(project: Path) -> dict[str, NDArray[np.uint8]]:
    """The masks of the labelled images."""
    return {
        name: mask
        for table in iter_shards(project / "prepared/labeled", ["id", "mask"])
        for name, mask in zip(
            table["id"].to_pylist(), read_masks(table["mask"], SIDE, "test"), strict=True
        )
    }


def test_what_the_teacher_doubts_goes_out_with_its_masks_and_comes_back_corrected(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    teach(project)
    names = ids(project / "prepared", "unlabeled")
    assert run(monkeypatch, "pick", "--count", "3", "--label-studio") == 0
    assert "pick: 3 doubtful images, by the teachers of generation 1" in capsys.readouterr().out
    with (project / "pick/queue.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["id"] for row in rows[:2]} == set(names[-2:])
    assert rows[0]["why"] == "background or disc"
    page = (project / "pick/index.html").read_text(encoding="utf-8")
    assert "Save corrections.csv" not in page

    tasks = tasks_of(project)
    assert [task["data"]["image_id"] for task in tasks] == [row["id"] for row in rows]
    for task in tasks:  # the user's own files, and the teacher's mask at their size
        data = task["data"]["image"].removeprefix("data:image/jpeg;base64,")
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (WIDTH, HEIGHT)
        (prediction,) = task["predictions"]
        (region,) = prediction["result"]  # the background needs none
        assert (region["original_width"], region["original_height"]) == (WIDTH, HEIGHT)
        mask = unpack_brush(bytes(region["value"]["rle"]), WIDTH, HEIGHT)
        assert (mask == (np.arange(WIDTH) < WIDTH // 2)).all()
        task["annotations"] = [{"result": [], "updated_at": "1"}]

    points = [[0, 0], [100, 0], [100, 50], [0, 50]]
    half = {"type": "polygonlabels", "original_width": WIDTH, "original_height": HEIGHT}
    value = {"points": points, "polygonlabels": ["disc"]}
    tasks[0]["annotations"][0]["result"] = [half | {"value": value}]
    tasks[1]["annotations"][0]["result"] = tasks[1]["predictions"][0]["result"]
    exported(project, tasks)
    assert run(monkeypatch, "answers", "export.json") == 0
    said = capsys.readouterr().out
    assert "2 of 2 answers are new in corrections.csv; next: selftrain run" in said
    assert "answers: 1 mask can't be used: 1 no region" in said
    assert rows[2]["id"] in said
    assert run(monkeypatch, "answers", "export.json") == 0
    assert "0 of 2 answers are new" in capsys.readouterr().out

    counts = prepare(project, project / "corrections.csv")
    assert (counts.corrected, counts.excluded, counts.corrections_unused) == (2, 0, 0)
    masks = learnt(project)
    inside = masks[rows[0]["id"]][4:20]  # of 48 x 32 in 24 x 24
    assert (inside[:8] == 1).all()
    assert (inside[8:] == 0).all()
    assert (masks[rows[1]["id"]][4:20, : SIDE // 2] == 1).all()
    assert (masks[rows[1]["id"]][:4] == IGNORED).all()
    assert run(monkeypatch, "pick", "--count", "8", "--by", "typical", "--force") == 0
    left = (project / "pick/queue.csv").read_text()
    assert rows[0]["id"] not in left
    assert rows[2]["id"] in left


def test_before_any_teacher_typical_images_go_out_without_masks(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "pick", "--count", "3", "--label-studio", "--coco") == 0
    assert "3 typical images, by the features of the pixels" in capsys.readouterr().out
    assert not any("predictions" in task for task in tasks_of(project))
    coco = json.loads((project / "pick/coco/annotations.json").read_text())
    assert [each["name"] for each in coco["categories"]][:2] == CLASSES
    first = coco["images"][0]
    assert {path.name for path in (project / "pick/coco/data").iterdir()} == {
        each["file_name"] for each in coco["images"]
    }
    corners = [0, 0, WIDTH, 0, WIDTH, HEIGHT / 2, 0, HEIGHT / 2]
    coco["annotations"] = [
        {"id": 1, "image_id": first["id"], "category_id": 2, "segmentation": [corners]}
    ]
    (project / "coco.json").write_text(json.dumps(coco))
    assert run(monkeypatch, "answers", "coco.json") == 0
    assert "1 of 1 answers are new" in capsys.readouterr().out
    (_, line) = (project / "corrections.csv").read_text().splitlines()
    image_id, label = line.split(",")
    assert first["file_name"].startswith(image_name(image_id))
    mask = np.asarray(Image.open(project / FOLDER / label))
    assert mask.shape == (HEIGHT, WIDTH)
    assert (mask[: HEIGHT // 2] == 1).all()
    assert not mask[HEIGHT // 2 :].any()

    coco["images"][0]["file_name"] = image_id  # as a tool has it that opened the user's own files
    (project / "coco.json").write_text(json.dumps(coco))
    assert run(monkeypatch, "answers", "coco.json") == 0
    assert "0 of 1 answers are new" in capsys.readouterr().out


def test_not_any_of_these_can_be_taken_back(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = project / "scenes/masks/00.png"
    broken.write_bytes(broken.read_bytes()[:50])
    name = ids(project / "prepared", "unlabeled")[0]
    image = {"id": 1, "file_name": name, "width": WIDTH, "height": HEIGHT}
    value: dict[str, Any] = {"images": [image, image | {"id": 2, "file_name": "images/00.png"}]}
    names = [*CLASSES, "Not any of these"]
    value["categories"] = [{"id": place, "name": each} for place, each in enumerate(names)]
    drawing = {"segmentation": [[0, 0, WIDTH, 0, WIDTH, 16, 0, 16]]}
    for category in (2, 1):
        value["annotations"] = [
            {"image_id": each, "category_id": category} | drawing for each in (1, 2)
        ]
        (project / "coco.json").write_text(json.dumps(value))
        assert run(monkeypatch, "answers", "coco.json") == 0
        counts = prepare(project, project / "corrections.csv")
    said = capsys.readouterr().out
    assert "1 of 1 answers are new" in said
    assert "1 no training image of this run (mask: truncated) (e.g. 'images/00.png')" in said
    assert (counts.corrected, counts.excluded) == (1, 0)
    assert (learnt(project)[name][4:12] == 1).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pick", "--count", "1", "--fiftyone"], "each has a mask; give --coco"),
        (["pick", "--count", "1", "--features", "champion"], "no features of whole images"),
        (["answers", "nothing.json"], "nothing.json: no such file"),
    ],
)
def test_what_does_not_apply_is_one_line(
    arguments: list[str],
    words: str,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, *arguments) != 0
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
