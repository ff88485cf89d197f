"""The policy file: written by the search's stage, read by training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.files import read_json, write_json
from pipeline.params import Params, parse_params
from pipeline.self_training.choices import Choices, with_choices

TRIALS = [
    {"num_ops": 1, "magnitude": 5.0, "accuracy": 0.5, "nll": 1.5},
    {"num_ops": 2, "magnitude": 5.0, "accuracy": 0.75, "nll": 1.25},
]


def params(search: bool) -> Params:
    augment: dict[str, Any] = {"num_ops": 7}
    if search:
        augment["search"] = {"num_ops": [1, 2], "magnitude": [5]}
    data = {"source": "digits", "image_size": 16}
    return parse_params({"data": data, "train": {"steps": 9}, "augment": augment})


def test_training_gets_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    Choices(2, 5.0, TRIALS).write(path, tmp_path / "metrics.json")
    found = with_choices(params(search=True), path).training("0").augment
    assert (found.num_ops, found.magnitude) == (2, 5.0)
    assert read_json(path)["trials"] == TRIALS


def test_without_a_search_the_parameters_count_and_no_file_is_read(tmp_path: Path) -> None:
    given = params(search=False)
    assert with_choices(given, tmp_path / "missing.json") is given


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {"num_ops": 2},
        {"num_ops": 7, "magnitude": 10.0, "searched": False},
        {"num_ops": 3, "magnitude": 5.0, "searched": True},
    ],
)
def test_a_policy_of_another_search_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "policy.json"
    write_json(path, content)
    with pytest.raises(DataError, match=r"policy\.json: "):
        with_choices(params(search=True), path)


def test_a_missing_policy_names_its_stage(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.json: missing; run the stage search"):
        with_choices(params(search=True), tmp_path / "missing.json")


def test_metrics_are_one_number_a_key() -> None:
    assert Choices(7, 20.0).metrics == {"num_ops": 7, "magnitude": 20.0}
    assert Choices(2, 5.0, TRIALS).metrics == {
        "num_ops": 2,
        "magnitude": 5.0,
        "val/accuracy/1_ops_at_5": 0.5,
        "val/nll/1_ops_at_5": 1.5,
        "val/accuracy/2_ops_at_5": 0.75,
        "val/nll/2_ops_at_5": 1.25,
    }
