"""The tools of training and of pseudo-labels, switched on in params.yaml and run through DVC."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.integration.project import SMALL, copy_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def everything() -> dict[str, Any]:
    values = copy.deepcopy(SMALL)
    values["train"] |= {
        "steps": 30,
        "distillation_weight": 0.5,
        "distillation_temperature": 2.0,
        "finetune_steps": 5,
        "keep": "best",
    }
    values["predict"] |= {"teacher": "ensemble", "propagation": {"num_neighbors": 5}}
    values["select"] |= {
        "class_thresholds": {"3": 0.2},
        "threshold_kind": "relative",
        "distribution_alignment": "labeled",
    }
    values["ensemble"] = {
        "method": "greedy",
        "seeds": {"1.1": {"generation": "1", "teacher": "0"}},
    }
    values["controls"] = {"longer": {"steps": 90}}
    values["generations"] = {
        "1": {
            "teacher": "0",
            "select": {"label_kind": "hard"},
            "student": {"grow": 1, "train": {"contrastive_weight": 0.5}},
        },
        "2": {
            "teacher": "1",
            "select": {},
            "student": {
                "transfer": {"source": "teacher", "frozen_stages": 2},
                "train": {"online": {"start_fraction": 0.2, "confidence_threshold": 0.5}},
            },
        },
    }
    values["generations"]["2"]["student"]["grow"] = 0
    return values


def test_all_tools_together_go_from_end_to_end(tmp_path: Path) -> None:
    project = copy_project(tmp_path, everything())
    project.repro()
    widths = [project.json(f"models/{g}/model.json")["network"]["width"] for g in range(3)]
    assert widths[0] < widths[1] == widths[2]
    for generation in ("0", "1", "2"):
        metrics = project.json(f"metrics/evaluate/{generation}.json")
        assert metrics["test/accuracy"] > 0.3  # of ten classes
    teacher, student = (
        load_file(project.folder / f"models/{g}/model.safetensors") for g in ("1", "2")
    )
    assert all(
        value.equal(student[key]) == key.startswith(("stem", "blocks.0"))
        for key, value in teacher.items()
        if key.endswith("weight")
    )
    one, again = (load_file(project.folder / f"models/{m}/model.safetensors") for m in ("1", "1.1"))
    assert any(not value.equal(again[key]) for key, value in one.items())
    assert set(project.json("ensemble.json")["weights"]) == {"0", "1", "2", "1.1"}
    history = (project.folder / "curves/0.longer/loss.csv").read_text().splitlines()
    assert history[-1].startswith("90,")
    assert project.json("metrics/evaluate/0.longer.json")["test/accuracy"] > 0.3
    page = (project.folder / "report/index.html").read_text(encoding="utf-8")
    assert "trained for 90 steps (as many as all generations together)" in page
    assert 0 <= project.json("metrics/ensemble.json")["test/accuracy"] <= 1
    history = (project.folder / "curves/2/loss.csv").read_text().splitlines()
    assert len(history) > 1
