"""Training spread over Ray workers."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from tests.integration.project import SMALL, copy_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_two_workers_train_one_model(tmp_path: Path) -> None:
    values = copy.deepcopy(SMALL)
    values["train"]["workers"] = 2
    values["generations"] = {}
    project = copy_project(tmp_path / "workers", values)
    answer = project.run("dvc", "repro", "evaluate_teacher")
    assert project.json("metrics/evaluate/0.json")["test/centre/accuracy"] > 0.7
    assert "Traceback" not in answer.stderr
    curve = (project.folder / "curves/0/loss.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in curve[1:]] == ["20", "40", "60"]
