"""The figures of the orchestration: stages told apart, medians, a run that computes little."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.orchestration import RAN, rows_of, shortened
from benchmarks.runs import ROOT
from pipeline.params import load_params


def test_a_line_of_dvc_names_the_stage_that_begins() -> None:
    match = RAN.match("Running stage 'train_student@2':\n")
    assert match is not None
    assert match[1] == "train_student@2"
    assert RAN.match("Stage 'prepare' didn't change, skipping\n") is None


def test_medians_over_the_rounds_and_stages_with_ray_apart() -> None:
    rounds = [
        {
            "demo": demo,
            "arithmetic": 10.0,
            "nothing to do": 2.0,
            "stages": {"prepare": prepare, "select@1": 3.0, "report": 4.0, "pseudo_label@1": 9.0},
        }
        for demo, prepare in ((30.0, 5.0), (20.0, 1.0), (90.0, 6.0))
    ]
    rows = {row.name: row for row in rows_of(rounds)}
    whole = rows["the demo against its arithmetic"]
    assert (whole.ours, whole.reference, whole.ratio) == (30.0, 10.0, 3.0)
    assert rows["the demo"].met is True
    assert rows["a stage without Ray, the median one"].ours == 4.0
    assert rows["a stage without Ray, the longest"].ours == 5.0
    assert rows["a stage with Ray, the longest"].ours == pytest.approx(9.0)
    assert rows["nothing to do"].ours == 2.0


def test_the_short_run_has_the_demos_stages_and_valid_parameters(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shortened(tmp_path)
    short, whole = load_params(tmp_path / "params.yaml"), load_params(ROOT / "params.yaml")
    assert short.model_keys == whole.model_keys
    assert {short.training(key).train.steps for key in short.model_keys} == {1}
    assert short.evaluate.views == short.predict.views == "centre"
