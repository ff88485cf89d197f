"""What init writes for a folder of JPEGs is valid, prepares them, and trains."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from PIL import Image

from pipeline.data.preparation.prepare import prepare
from pipeline.data.sources import open_source
from pipeline.files import write_json
from pipeline.models.build import build_network
from pipeline.params import TrainParams, load_params
from pipeline.tasks import open_task
from pipeline.train.fit import fit
from pipeline.train.inputs import training_data
from selftrain.init import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the presets and, in my_images, JPEGs of two classes, most unlabelled."""
    for number in range(60):
        place = ("red", "blue")[number % 2] if number < 24 else "unlabeled"
        pixels = np.random.default_rng(number).integers(0, 120, (30, 44, 3), np.uint8)
        pixels[..., 2 * (number % 2)] += 120
        path = tmp_path / "my_images" / place / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["init", *arguments])
    return main()


@pytest.mark.slow
def test_what_it_writes_prepares_and_trains(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert init(monkeypatch, "my_images") == 0
    params = load_params(project / "params.yaml")
    data, training = params.data, params.training("1")
    assert (data.source, data.image_size, data.channels) == ("folder", 28, 3)
    assert data.validation_fraction == 0.0
    source = open_source(data.source, data.path, seed=params.seed)
    task = open_task(params.task)
    counts = prepare(
        source, project / "prepared", data, task=task, seed=params.seed, scratch=project / "work"
    )
    assert counts.unlabeled == 36
    assert counts.labeled + counts.test == 24
    images = training_data(project / "prepared", None, threads=1, cache_gib=1.0)
    options: dict[str, Any] = training.model.network | {"width": 4}
    network = build_network(
        options.pop("name"), num_classes=2, channels=3, image_size=28, seed=0, **options
    )
    few = training.train.model_dump() | {"steps": 6, "batch_size": 8, "threads": 1, "log_every": 1}
    losses: list[float] = []
    fit(
        network,
        images,
        train=TrainParams(**few),
        augment=training.augment,
        seed=0,
        log=lambda step, values: losses.append(values["loss"]),
    )
    assert len(losses) == 6
    assert np.isfinite(losses).all()


def test_a_file_that_is_there_stays_without_force(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "params.yaml").write_text("mine")
    assert init(monkeypatch, "my_images") == 2
    assert "--force" in capsys.readouterr().err
    assert (project / "params.yaml").read_text() == "mine"
    assert init(monkeypatch, "my_images", "--force") == 0
    assert load_params(project / "params.yaml").data.path == "my_images"


def test_what_it_found_is_said_and_nothing_is_a_message(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(monkeypatch, "my_images", "--sample", "10") == 0
    said = capsys.readouterr().out
    assert "24 labelled images of 2 classes (blue 12, red 12), 36 unlabelled" in said
    assert "RGB 10 of 10 sampled" in said
    assert init(monkeypatch, "nothing", "--force") == 1
    assert "init: data.path = 'nothing': no such folder" in capsys.readouterr().err


def test_images_around_the_project_are_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert init(monkeypatch, ".") == 1
    assert "holds this project's own folder" in capfd.readouterr().err
    assert not (project / "params.yaml").exists()


def test_parameters_that_a_stage_works_with_stay(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "params.yaml").write_text("seed: 1\n")
    (project / ".selftrain/locks").mkdir(parents=True)
    with FileLock(project / ".selftrain/locks/train_teacher.lock"):
        assert init(monkeypatch, "my_images", "--force") == 1
    assert "params.yaml: train_teacher is at work with it" in capsys.readouterr().err
    assert (project / "params.yaml").read_text() == "seed: 1\n"


@pytest.mark.parametrize("source", ["masks", "coco", "parquet"])
def test_images_with_masks_get_their_task_and_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "scenes"
    for number in range(30):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), np.uint8)
        mask = np.repeat(np.arange(2, dtype=np.uint8), 12)[None].repeat(24, axis=0)
        for name, values in (("images", pixels), ("masks", mask)):
            (path / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path / name / f"{number}.png")
    if source == "coco":
        shutil.rmtree(path / "masks")
        write_json(path / "list.json", coco_of(30))
    if source == "parquet":
        files = {name: sorted((path / name).iterdir()) for name in ("images", "masks")}
        columns = {name[:-1]: [file.read_bytes() for file in files[name]] for name in files}
        path = tmp_path / "scenes.parquet"
        pq.write_table(pa.table(columns), path)
    assert init(monkeypatch, str(path)) == 0
    params = load_params(tmp_path / "params.yaml")
    assert (params.task, params.data.source) == ("segmentation", source)
    assert (params.data.image_size, params.data.channels) == (32, 3)
    opened = open_source(source, params.data.path, seed=params.seed, task=params.task)
    task = open_task(params.task)
    counts = prepare(
        opened,
        tmp_path / "prepared",
        params.data,
        task=task,
        seed=params.seed,
        scratch=tmp_path / "work",
    )
    assert counts.labeled + counts.validation + counts.test == 30


def coco_of(count: int) -> dict[str, Any]:
    """A file of images of 24×24 with one class on their right halves."""
    half = [[12, 0, 24, 0, 24, 24, 12, 24]]
    images = [{"id": n, "file_name": f"{n}.png", "height": 24, "width": 24} for n in range(count)]
    annotations = [{"image_id": n, "category_id": 1, "segmentation": half} for n in range(count)]
    categories = [{"id": 1, "name": "half"}]
    return {"images": images, "annotations": annotations, "categories": categories}
