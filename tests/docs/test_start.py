"""The commands of docs/start.md, word for word, on a small folder of JPEGs and with few steps."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.docs.blocks import blocks
from tests.integration.project import Project, copy_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
FEW = {"steps": 20, "batch_size": 8, "unlabeled_ratio": 1, "threads": 1}


def draw(path: Path, kind: str, seed: int) -> None:
    """A JPEG of stripes across or along, 40 × 30 pixels or so."""
    generator = np.random.default_rng(seed)
    height, width = generator.integers(30, 40, 2)
    rows, columns = np.mgrid[:height, :width]
    stripes = 120 * ((rows if kind == "cat" else columns) // 5 % 2)
    pixels = generator.integers(0, 120, (height, width, 3)) + stripes[:, :, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def make_images(root: Path) -> None:
    for number in range(70):
        kind = ("cat", "dog")[number % 2]
        place = kind if number < 40 else "unlabeled/more"
        draw(root / place / f"{number}.jpg", kind, number)
    (root / "unlabeled/more/broken.jpg").write_bytes(b"no image")


def shrink(project: Project) -> None:
    """Few steps, one student and no control: the page's own take an hour."""
    values = project.parameters()
    values["train"] |= FEW
    values["teacher"] = {}
    values["model"]["width"] = 4
    for section in ("predict", "evaluate"):
        values[section] |= {"jitter_views": 2, "threads": 1}
    values["controls"] = {}
    del values["generations"]["2"]
    project.set_parameters(values)


def test_the_page_leads_from_a_folder_to_an_answer(tmp_path: Path) -> None:
    init, repro, predict, serve, ask = blocks("docs/start.md", "bash")
    project = copy_project(tmp_path / "selftrain", {})
    make_images(project.folder / "my_images")
    said = project.run("bash", "-c", init).stdout
    assert "40 labelled images of 2 classes" in said
    assert "1 of 71 sampled are unusable" in said
    shrink(project)
    project.run("bash", "-c", repro)
    project.run("bash", "-c", predict)
    with (project.folder / "predictions.csv").open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert len(rows) == 31
    assert [row["id"] for row in rows if row["error"]] == ["more/broken.jpg"]
    export, server = serve.splitlines()
    project.run("bash", "-c", export)
    assert answer(project, server, ask)["predictions"][0]["label"] in ("cat", "dog")


def answer(project: Project, server: str, ask: str) -> dict[str, list[dict[str, str]]]:
    """What the page's request gets from the page's server."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    log = project.folder / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            ["bash", "-c", server],
            cwd=project.folder,
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        for _ in range(100):
            assert process.poll() is None, log.read_text()[-2000:]
            asked = project.run("bash", "-c", ask, check=False)
            if asked.returncode == 0:
                found: dict[str, list[dict[str, str]]] = json.loads(asked.stdout)
                return found
            time.sleep(1)
        raise AssertionError(asked.stderr + log.read_text()[-2000:])
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
