"""What a run will take is measured by real steps, and added up part by part."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from pipeline.data.preparation.inspection import Inspection
from pipeline.evaluate.views import num_views
from pipeline.files import write_json
from pipeline.params import Params, parse_params
from pipeline.workflow.estimate import (
    STAGE_SECONDS,
    Counts,
    Rates,
    estimate_seconds,
    known_counts,
    measure_rates,
    note_counts,
)
from pipeline.workflow.times import stage_names

PRESET = Path(__file__).parents[2] / "presets" / "photographs.yaml"


def photographs(input_size: int = 128) -> Params:
    values = YAML(typ="safe", pure=True).load(PRESET.read_text(encoding="utf-8"))
    values["embed"] |= {"input_size": input_size}
    values["model"] |= {"input_size": 32}
    values["train"] |= {"batch_size": 2, "threads": 1, "device": "cpu"}
    values["predict"]["device"] = "cpu"
    values["run"]["actors"] = 1
    return parse_params(values)


def test_a_part_is_its_images_or_steps_times_their_rate() -> None:
    params = photographs()
    found = Inspection(["a", "b"], answered=60, tested=40, unlabeled=900, decoded=500)
    counts = Counts.of(found, seconds=5.0)
    stages = estimate_seconds(params, counts, Rates(embed=0.1, step=0.5, predict=0.01))
    work = {stage: seconds - STAGE_SECONDS for stage, seconds in stages.items()}
    assert work["prepare"] == pytest.approx(2 * 5.0 * 1000 / 500)
    assert work["embed"] == pytest.approx(1000 * 0.1)
    assert work["search"] == pytest.approx(3 * params.transfer.trial_steps * 0.5)
    assert work["train_teacher"] == work["train_student@1"] == 0.0  # classifiers on features
    assert work["train_student@2"] + work["train_student@3"] == pytest.approx(600 * 0.5)
    views = 1  # the centre, until they are chosen
    assert work["evaluate@3"] == pytest.approx(100 * views * 0.01)
    assert work["pseudo_label@3"] == pytest.approx(900 * num_views(params.predict) * 0.01)
    assert work["select@3"] == 0.0
    assert stages.keys() == {*stage_names(["1", "2", "3"], [], params.control_keys), "report"}


def test_counts_are_those_of_prepare_else_of_an_inspection(tmp_path: Path) -> None:
    assert known_counts(tmp_path) is None
    inspected = Counts(images=10, unlabeled=8, judged=2, prepare=3.0)
    note_counts(tmp_path, inspected)
    assert known_counts(tmp_path) == inspected
    prepared = {"labeled": 3, "validation": 1, "test": 2, "unlabeled": 20, "quarantined": 1}
    write_json(tmp_path / "metrics" / "prepare.json", prepared)
    assert known_counts(tmp_path) == Counts(images=26, unlabeled=20, judged=6, prepare=0.0)


def test_more_pixels_take_longer_and_nothing_of_torch_is_left_changed() -> None:
    before = torch.get_num_threads()
    small, large = (measure_rates(photographs(side)) for side in (32, 256))
    assert 0 < small.embed < large.embed
    assert small.step > 0
    assert torch.get_num_threads() == before


def test_a_step_takes_as_long_as_it_has_images() -> None:
    values = YAML(typ="safe", pure=True).load(
        (PRESET.parent / "masks_photographs.yaml").read_text(encoding="utf-8")
    )
    values["train"] |= {"unlabeled_ratio": 3}
    values["generations"]["1"]["student"]["train"] = {"online": {"start_fraction": 0.1}}
    stages = estimate_seconds(parse_params(values), Counts(9, 9, 9, 0.0), Rates(0.0, 1.0, 0.0))
    work = {stage: seconds - STAGE_SECONDS for stage, seconds in stages.items()}
    assert work["train_teacher"] == pytest.approx(150 / 4)  # the labelled images alone
    assert work["train_control@0.longer"] == pytest.approx(300 / 4)
    online = 0.9 * 3 / 3  # of a batch of labelled images
    assert work["train_student@1"] == pytest.approx(150 * (4 + online) / 4)
