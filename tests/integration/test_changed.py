"""Parameters and images that change while the stage that reads them runs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.small_run import SMALL, make_project, start_repro
from tests.integration.by_hand import run, start
from tests.integration.project import YAML_FILE, copy_project
from tests.integration.test_at_once import is_held

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
LOCK = ".selftrain/locks/prepare.lock"


def test_a_parameter_that_was_edited_meanwhile_is_not_recorded_as_used(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project", SMALL)
    first = start_repro(project.folder, "prepare")
    while not is_held(project.folder / LOCK):
        assert first.poll() is None
    os.killpg(first.pid, signal.SIGSTOP)
    values = project.parameters()
    values["data"]["labels"] = 200
    project.set_parameters(values)
    os.killpg(first.pid, signal.SIGCONT)
    assert first.wait(200) == 255
    said = (project.folder / ".git/said").read_text()
    assert "prepare: params.yaml: data: changed while the stage ran; selftrain run again" in said
    assert project.repro("prepare") == ["prepare"]
    assert project.json("metrics/prepare.json")["labeled"] == 140


def test_images_that_changed_since_they_were_scanned_are_not_mixed(tmp_path: Path) -> None:
    images = tmp_path / "images"
    for number in range(100):
        path = images / f"labeled/{'ab'[number % 2]}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (32, 32), np.uint8)).save(
            path
        )
    project = tmp_path / "project"
    make_project(project)
    data = SMALL["data"] | {"source": "folder", "path": str(images), "labels": None}
    YAML_FILE.dump(SMALL | {"data": data}, project / "params.yaml")
    run("scan", project)
    process = start("prepare", project)
    while not is_held(project / LOCK):
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGSTOP)
    path.write_bytes((images / "labeled/a/0.png").read_bytes())
    os.killpg(process.pid, signal.SIGCONT)
    said, _ = process.communicate(timeout=100)
    assert (process.returncode, said.count("\n")) == (1, 1), said
    assert said == f"prepare: {images}: files changed while they were read; selftrain run again\n"
    assert not (project / "prepared/dataset.json").exists()
    run("scan", project)
    run("prepare", project)
