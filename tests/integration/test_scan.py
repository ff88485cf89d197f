"""A change of the source reruns what rests on it, and nothing else does."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path

import pytest

from tests.data.helpers import encoded, noise
from tests.integration.project import SMALL, copy_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_files_added_touched_and_gone(tmp_path: Path) -> None:
    images = tmp_path / "images"
    for number in range(60):
        folder = images / "labeled" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(encoded(noise(number)))
    values = copy.deepcopy(SMALL)
    values["data"] |= {"source": "folder", "path": str(images), "labels": None}
    project = copy_project(tmp_path / "project", values)
    assert project.repro("prepare") == ["prepare"]
    os.utime(images / "labeled" / "cat" / "0.png")
    assert project.repro("prepare") == []
    before = project.json("metrics/prepare.json")
    (images / "unlabeled").mkdir()
    (images / "unlabeled" / "60.png").write_bytes(encoded(noise(60)))
    assert project.repro("prepare") == ["prepare"]
    more = {"seen": before["seen"] + 1, "unlabeled": 1}
    assert project.json("metrics/prepare.json") == before | more
    shutil.rmtree(images)
    answer = project.run("dvc", "repro", "prepare", check=False)
    assert answer.returncode != 0
    assert f"data.path = '{images}': no such file or folder" in answer.stderr
