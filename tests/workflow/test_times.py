import json
from pathlib import Path

import pytest

from pipeline.errors import ParameterError
from pipeline.params import RunParams, load_params
from pipeline.program import program_file
from pipeline.workflow.times import (
    PARAMS,
    PLAN,
    check_planned,
    in_words,
    note_time,
    parameters_digest,
    position,
    read_times,
    stage_names,
)


def test_the_last_run_of_each_stage_is_kept_in_order(tmp_path: Path) -> None:
    note_time(tmp_path, "evaluate@0", seconds=9.0, images=0, commit="a")
    note_time(tmp_path, "prepare", seconds=3.0, images=10, commit="a")
    note_time(tmp_path, "prepare", seconds=4.0, images=10, commit="b")
    found = read_times(tmp_path, ["prepare", "train_teacher", "evaluate@0"])
    assert [(row.stage, row.seconds, row.commit) for row in found] == [
        ("prepare", 4.0, "b"),
        ("evaluate@0", 9.0, "a"),
    ]
    assert found[0].images_per_second == pytest.approx(2.5)
    assert found[1].images_per_second is None


def test_a_file_of_another_form_is_not_known(tmp_path: Path) -> None:
    note_time(tmp_path, "prepare", seconds=3.0, images=10, commit="a")
    (tmp_path / ".selftrain" / "times" / "prepare.json").write_text('{"took": 3}')
    (tmp_path / ".selftrain" / "times" / "ensemble.json").write_text("{")
    assert read_times(tmp_path, ["prepare", "ensemble"]) == []


def test_stages_are_named_as_dvc_shows_them() -> None:
    names = stage_names(["1"], ["1.1"], ["0.longer"])
    assert names == [
        *("prepare", "embed", "search", "train_teacher", "evaluate@0"),
        *("pseudo_label@1", "select@1", "train_student@1", "evaluate@1"),
        *("train_student@1.1", "evaluate@1.1", "train_control@0.longer", "evaluate@0.longer"),
        *("ensemble", "baseline"),
    ]


def test_in_words_the_longest_part_comes_first() -> None:
    assert (
        in_words({"a": 20.0, "b@1": 60.0, "b@2": 60.0, "c": 600.0})
        == "about 12 minutes (c 10, b 2)"
    )
    assert in_words({"a": 2.0}) == "about 1 minute"


def test_the_plan_says_which_stage_it_is_and_how_long_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert position("select@1") is None
    plan: dict[str, float | None] = {"prepare": 60.0, "select@1": 120.0, "report": 61.0}
    monkeypatch.setenv(PLAN, json.dumps(plan))
    assert position("select@1") == "stage 2 of 3, about 3 minutes left"
    assert position("scan") is None
    monkeypatch.setenv(PLAN, json.dumps(plan | {"report": None}))
    assert position("select@1") == "stage 2 of 3"


def test_a_run_goes_on_with_the_parameters_that_it_started_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = load_params(program_file("params.yaml"))
    check_planned(params)  # nothing was planned
    monkeypatch.setenv(PARAMS, parameters_digest(params))
    check_planned(params)
    faster = params.model_copy(update={"run": RunParams(actors=2)})
    check_planned(faster)
    with pytest.raises(ParameterError, match="changed while the run was at work; selftrain run"):
        check_planned(params.model_copy(update={"seed": 5}))
