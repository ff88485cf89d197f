"""selftrain.pick and selftrain.answers, as a user calls them, on a small prepared folder."""

from __future__ import annotations

import base64
import csv
import io
import json
import sys
from pathlib import Path
from shutil import rmtree

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

import selftrain.answers
import selftrain.pick
from pipeline.data.answers.choices import image_name
from pipeline.evaluate.result import model_result, save_result
from pipeline.files import write_json
from pipeline.labels.queue import doubtful_queue
from pipeline.tasks import open_task
from tests.data.helpers import encoded, photo
from tests.labels.folders import write_predictions
from tests.report.pictures import ids_of
from tests.report.test_page import Reader
from tests.tiny import CLASSES, prepared_stripes, save_model

TASK = open_task("classification")

ROOT = Path(__file__).parents[2]
SHARD = 16


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder in which nothing but prepare ran."""
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (tmp_path / "corrections.csv").write_text("id,label\n")
    prepared_stripes(tmp_path / "prepared")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def teach(project: Path) -> list[Path]:
    """What two teachers think of the unlabelled images, drawn."""
    ids = ids_of(project / "prepared" / "unlabeled")
    draw = np.random.default_rng(1)
    folders = [project / "predictions" / key for key in ("1", "2")]
    for folder in folders:
        seen = draw.dirichlet(np.ones(3), len(ids))
        write_predictions(folder, seen, rows_per_shard=SHARD, ids=ids)
    return folders


def run(monkeypatch: pytest.MonkeyPatch, stage: str, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", [stage, *arguments])
    return {"pick": selftrain.pick.main, "answers": selftrain.answers.main}[stage]()


def queue(folder: Path) -> list[dict[str, str]]:
    with (folder / "queue.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_before_any_model_a_page_and_files_for_both_tools_are_written(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "pick", "--count", "5", "--label-studio", "--fiftyone") == 0
    assert "pick: 5 typical images, by the features of the pixels" in capsys.readouterr().out
    rows = queue(project / "pick")
    ids = [row["id"] for row in rows]
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert set(ids) < set(ids_of(project / "prepared" / "unlabeled"))
    assert {row["label"] for row in rows} == {""}
    page = (project / "pick" / "index.html").read_text(encoding="utf-8")
    reader = Reader(page)
    assert (reader.open, reader.wrong) == ([], [])
    assert [
        json.loads(value or "") for _, key, value in reader.attributes if key == "data-id"
    ] == ids
    assert "teacher saw them" not in reader.words
    assert page.count("<script") == 1
    tasks = json.loads((project / "pick" / "label_studio" / "tasks.json").read_text())
    assert [task["data"]["image_id"] for task in tasks] == ids
    names = {path.stem for path in (project / "pick" / "fiftyone" / "data").iterdir()}
    assert names == {image_name(name) for name in ids}

    first = {"annotations": [{"result": [{"value": {"choices": ["right"]}}]}]}
    write_json(
        project / "export.json", [tasks[0] | first, *(t | {"annotations": []} for t in tasks)]
    )
    assert run(monkeypatch, "answers", "export.json") == 0
    assert "1 of 1 answers are new in corrections.csv" in capsys.readouterr().out
    assert (project / "corrections.csv").read_text() == f"id,label\n{ids[0]},right\n"
    assert run(monkeypatch, "pick", "--count", "5", "--force") == 0
    assert ids[0] not in [row["id"] for row in queue(project / "pick")]
    assert not (project / "pick" / "fiftyone").exists()


def test_the_page_has_the_data_s_name_and_the_user_s_own_files(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    yaml = YAML()
    params = yaml.load((project / "params.yaml").read_text())
    params["data"] |= {"source": "folder", "path": "flowers"}
    yaml.dump(params, project / "params.yaml")
    (project / "flowers").mkdir()
    for name in ids_of(project / "prepared" / "unlabeled"):
        (project / "flowers" / name).write_bytes(encoded(photo(600, 400)))
    assert run(monkeypatch, "pick", "--count", "1") == 0
    assert "pick: 1 typical image, by" in capsys.readouterr().out
    page = (project / "pick" / "index.html").read_text(encoding="utf-8")
    reader = Reader(page)
    assert "Which images of flowers to label first" in reader.words
    assert page.count("data-whole") == 1 + page.count('hasAttribute("data-whole")')
    (uri,) = [str(value) for _, key, value in reader.attributes if key == "data-picture"]
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    assert Image.open(io.BytesIO(data)).size == (600, 400)
    for path in (project / "flowers").iterdir():
        path.unlink()
    assert run(monkeypatch, "pick", "--count", "1", "--force") == 0
    assert "data-picture=" not in (project / "pick" / "index.html").read_text(encoding="utf-8")


def test_with_teachers_the_doubtful_images_come_as_the_report_offers_them(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = teach(project)
    assert run(monkeypatch, "pick", "--count", "4", "--by", "doubtful", "--out", "next") == 0
    expected = doubtful_queue(project / "prepared" / "unlabeled", folders, CLASSES, count=4)
    rows = queue(project / "next")
    assert [(row["id"], row["why"]) for row in rows] == [(a.id, a.why) for a in expected]
    assert {row["label"] for row in rows} <= set(CLASSES)
    words = Reader((project / "next" / "index.html").read_text(encoding="utf-8")).words
    assert "as generation 2's teacher saw them" in words
    assert run(monkeypatch, "pick", "--count", "4", "--by", "doubtful", "--out", "again") == 0
    assert queue(project / "again") == rows

    ids = ids_of(project / "prepared" / "unlabeled")
    more_classes = np.full((len(ids), 4), 1 / 4)
    write_predictions(folders[1], more_classes, rows_per_shard=SHARD, ids=ids)
    capsys.readouterr()
    assert run(monkeypatch, "pick", "--count", "4", "--by", "doubtful") == 0
    assert "have not seen these images and classes" in capsys.readouterr().out


def test_the_champion_makes_the_features_where_there_is_one(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(project / "models" / "1")
    write_json(project / "ensemble.json", {"weights": {"0": 0.5, "1": 0.5}, "champion": "1"})
    assert run(monkeypatch, "pick", "--count", "3") == 0
    said = capsys.readouterr().out
    assert "by the features of generation 1, the champion" in said
    assert "weakest" not in said
    labels = np.repeat(np.arange(3), 8)
    seen = np.log(np.full((24, 3), 0.05) + 0.85 * np.eye(3)[labels])
    seen[:2] = seen[8:10][::-1]  # two of the first class are taken for the second
    none = np.empty((0, 3), np.float32)
    result = model_result(TASK, seen, seen, labels, none, np.empty(0, np.int64), 3, interval=0.95)
    save_result(project / "evaluations/1", result, TASK)
    assert run(monkeypatch, "pick", "--count", "3", "--force") == 0
    assert f"pick: the weakest classes: {CLASSES[0]} (75 % right)\n" in capsys.readouterr().out
    rmtree(project / "evaluations")
    save_model(project / "models" / "1", channels=3, mean=[0.3] * 3, std=[0.25] * 3)
    assert run(monkeypatch, "pick", "--count", "3", "--force") == 1
    assert "trained on other images" in capsys.readouterr().err
    assert len(queue(project / "pick")) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--count", "0"], "--count 0: must be 1 or more"),
        (["--count", "1", "--out", "prepared"], "--out prepared: exists; --force"),
        (["--count", "1", "--out", "prepared", "--force"], "no folder that selftrain pick wrote"),
        (["--count", "1", "--by", "doubtful"], "no teacher has seen these images yet"),
        (["--count", "1", "--features", "pretrained"], "transfer.source = null"),
        (["--count", "1", "--coco"], "--coco: holds masks, and an image has one class"),
    ],
)
def test_a_wrong_argument_is_one_line(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    assert run(monkeypatch, "pick", *arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (project / "pick").exists()
    assert (project / "prepared" / "dataset.json").exists()
