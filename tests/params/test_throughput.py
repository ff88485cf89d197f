"""How fast a run goes is told in one section, which nothing else of a run depends on."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import ParameterError
from pipeline.params import Params, RunParams, parse_params
from pipeline.params.errors import IN_RUN
from pipeline.params.presets import differences

FASTER = {
    "actors": [2, 8],
    "gpus_per_actor": 0.5,
    "select_workers": 4,
    "select_threads": 8,
    "checkpoint_minutes": 60.0,
}


def params(**changes: Any) -> Params:
    data = {"source": "digits", "image_size": 8, "channels": 1}
    entry = {"teacher": "0", "select": {}, "student": {}}
    base: dict[str, Any] = {"data": data, "train": {"steps": 1}, "generations": {"1": entry}}
    return parse_params(base | changes)


def test_the_section_may_be_left_out() -> None:
    assert params().run == RunParams()


def test_nothing_that_a_fingerprint_holds_changes_with_it() -> None:
    plain, faster = params(), params(run=FASTER)
    assert set(FASTER) == set(RunParams.model_fields)
    assert all(getattr(faster.run, name) != getattr(plain.run, name) for name in FASTER)
    assert faster.model_dump(exclude={"run"}) == plain.model_dump(exclude={"run"})
    assert faster.training("1") == plain.training("1")
    assert faster.selection("1") == plain.selection("1")
    assert differences(faster, plain) == []


@pytest.mark.parametrize(("key", "name"), IN_RUN.items())
def test_in_the_section_of_its_stage_it_is_refused_with_its_place(key: str, name: str) -> None:
    section, _, given = key.partition(".")
    values = {"train": {"steps": 1}}
    with pytest.raises(ParameterError, match=rf"{key} is not a parameter; it is run\.{name}"):
        params(**{section: values.get(section, {}) | {given: 2}})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"select": {"workers": 2}}, "generations.1.select.workers"),
        (
            {"student": {"train": {"checkpoint_minutes": 2.0}}},
            "generations.1.student.train.checkpoint_minutes",
        ),
    ],
)
def test_no_generation_has_it_of_its_own(changes: dict[str, Any], said: str) -> None:
    entry = {"teacher": "0", "select": {}, "student": {}} | changes
    with pytest.raises(ParameterError, match=rf"{said} is not a parameter; it is run\."):
        params(generations={"1": entry})
