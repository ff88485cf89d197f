from typing import Any

import pytest

from pipeline.errors import ParameterError
from pipeline.params import parse_params
from tests.params.test_load import GENERATION, refused, values


def test_a_long_value_is_cut() -> None:
    assert len(refused(train={"optimizer": "x" * 5000})) < 250


def test_more_wrong_values_are_counted() -> None:
    assert "(and 2 more)" in refused(train={"steps": 0, "batch_size": 0, "workers": -1})


def test_a_path_is_asked_for_where_it_is_needed() -> None:
    assert "data.path is needed for data.source = folder" in refused(data={"source": "folder"})
    assert parse_params(values(data={"source": "folder", "path": "x"})).data.path == "x"


def test_a_missing_key_says_what_it_is_for() -> None:
    with pytest.raises(ParameterError, match=r"train\.steps is missing \(optimizer steps\)"):
        parse_params({"data": {"source": "digits", "image_size": 16}, "train": {}})
    with pytest.raises(ParameterError, match="data is missing"):
        parse_params({"train": {"steps": 1}})


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        ({"dta": {}}, "dta is not a parameter; did you mean data?"),
        ({"train": {"step": 1}, "data": {}}, "train.step is not a parameter; did you mean steps?"),
        ({"teacher": {"trian": {}}}, "teacher.trian is not a parameter; did you mean train?"),
        (
            {"teacher": {"train": {"learn_rate": 1}}},
            "teacher.train.learn_rate is not a parameter; did you mean learning_rate?",
        ),
        (
            {"generations": {"1": GENERATION | {"studnt": {}}}},
            "generations.1.studnt is not a parameter; did you mean student?",
        ),
        (
            {"generations": {"1": GENERATION | {"select": {"max_repeat": 1}}}},
            "generations.1.select.max_repeat is not a parameter; did you mean max_repeats?",
        ),
        (
            {"generations": {"1": GENERATION | {"student": {"model": {"dept": 2}}}}},
            "generations.1.student.model.dept is not a parameter; did you mean depth?",
        ),
    ],
)
def test_an_unknown_key_suggests_a_known_one(sections: dict[str, Any], line: str) -> None:
    assert line in refused(**sections)


def test_an_unknown_key_like_no_other_lists_all() -> None:
    message = refused(model={"zzz": 1})
    assert "model.zzz is not a parameter; there are name, width" in message


def test_keys_that_are_no_strings_are_refused_as_such() -> None:
    for sections, key in (
        ({"generations": {1: GENERATION}}, "generations.1"),
        ({"train": {3: 4}}, "train.3"),
        ({"generations": {"1": GENERATION | {"select": {3: 4}}}}, "generations.1.select.3"),
    ):
        message = refused(**sections)
        assert f"{key}: keys must be quoted strings" in message
    with pytest.raises(ParameterError, match='3: keys must be quoted strings: "3"'):
        parse_params(values() | {3: 4})


def test_a_wrong_override_is_named_where_it_stands() -> None:
    generation = {**GENERATION, "student": {"train": {"steps": 0}}}
    assert "generations.1.student.train.steps = 0: " in refused(generations={"1": generation})
    generation = {**GENERATION, "select": {"confidence_threshold": 2}}
    assert "generations.1.select.confidence_threshold = 2: " in refused(
        generations={"1": generation}
    )
    assert "teacher.model.width = 0: " in refused(teacher={"model": {"width": 0}})
    generation = {**GENERATION, "student": {"augment": {"operations": ["spin"]}}}
    assert "generations.1.student.augment.operations.0 = 'spin': " in refused(
        generations={"1": generation}
    )


@pytest.mark.parametrize(
    ("section", "key", "place"),
    [
        ("predict", "actors", "run.actors"),
        ("select", "workers", "run.select_workers"),
        ("train", "checkpoint_minutes", "run.checkpoint_minutes"),
    ],
)
def test_how_fast_a_run_goes_is_pointed_to_its_section(section: str, key: str, place: str) -> None:
    assert f"{section}.{key} is not a parameter; it is {place}" in refused(**{section: {key: 1}})
