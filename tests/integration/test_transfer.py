"""A teacher starts from a model folder, as params.yaml says, once its digest is named."""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.integration.project import SMALL, copy_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_teacher_starts_from_a_folder_whose_digest_is_named(tmp_path: Path) -> None:
    values = copy.deepcopy(SMALL)
    values["train"]["steps"] = 12
    values["generations"] = {}
    project = copy_project(tmp_path, values)
    for stage in ("prepare", "search", "train_teacher"):
        project.run("python", "-m", f"stages.{stage}")
    first = load_file(tmp_path / "models/0/model.safetensors")

    shutil.copytree(tmp_path / "models/0", tmp_path / "kept")
    values["teacher"] = {"transfer": {"source": "kept", "frozen_stages": 4}}
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
