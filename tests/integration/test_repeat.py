"""The same commit, parameters and seed give the same bytes in two fresh copies."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.files import file_digest
from tests.integration.project import SMALL, copy_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_models_and_pseudo_labels_are_the_same_to_the_byte(tmp_path: Path) -> None:
    first, second = (copy_project(tmp_path / name, SMALL) for name in ("first", "second"))
    for project in (first, second):
        project.repro("train_student@1")
    names = ["models/0/model.safetensors", "models/1/model.safetensors"]
    names += ["models/1/model.json", "pseudo_labels/1/manifest.json"]
    for name in names:
        assert file_digest(first.folder / name) == file_digest(second.folder / name), name
