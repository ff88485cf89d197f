"""The stages start from other weights as params.yaml says, and count nearest neighbours."""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.integration.project import SMALL, copy_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_student_starts_from_its_teacher_and_a_teacher_from_a_folder(tmp_path: Path) -> None:
    values = copy.deepcopy(SMALL)
    del values["generations"]["2"]
    values["train"]["steps"] = 12
    values["transfer"] = {"source": "teacher", "mode": "freeze", "frozen_stages": 2}
    values["teacher"] = {"transfer": {"source": None}}
    values["evaluate"]["knn"] = 5
    project = copy_project(tmp_path, values)
    for stage in ("prepare", "train_teacher"):
        project.run("python", "-m", f"stages.{stage}")
    for stage in ("pseudo_label", "select", "train_student"):
        project.run("python", "-m", f"stages.{stage}", "--generation", "1")
    project.run("python", "-m", "stages.evaluate", "--generation", "0")
    assert 0.3 < project.json("metrics/evaluate/0.json")["test/knn_accuracy"] <= 1
    first, second = (load_file(tmp_path / f"models/{g}/model.safetensors") for g in ("0", "1"))
    assert all(
        value.equal(second[key]) == key.startswith(("stem", "blocks.0"))
        for key, value in first.items()
        if key.endswith("weight")
    )

    shutil.copytree(tmp_path / "models/0", tmp_path / "kept")
    values["teacher"] = {"transfer": {"source": "kept", "mode": "head"}}
    project.set_parameters(values)
    refused = project.run("python", "-m", "stages.train_teacher", check=False)
    assert refused.returncode == 2
    digest = re.search(r"'kept' is ([0-9a-f]{64}); set that", refused.stderr)
    assert digest is not None
    values["teacher"]["transfer"]["sha256"] = digest.group(1)
    project.set_parameters(values)
    project.run("python", "-m", "stages.train_teacher")
    again = load_file(tmp_path / "models/0/model.safetensors")
    moved = {key for key, value in again.items() if not value.equal(first[key])}
    assert moved == {"classifier.weight", "classifier.bias"}
